package unit

// Discloses implements resource.Discloser.
func (*module) Discloses(_ string) string {
	return "systemd shows the text of a unit to every user: put the secret into a file of mode 0600 and give it to the unit with LoadCredential="
}
