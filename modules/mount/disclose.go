package mount

// Discloses implements resource.Discloser.
func (module) Discloses(_ string) string {
	return "every user can read fstab: put the secret into a file of mode 0600, and name it with credentials="
}
