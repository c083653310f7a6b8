package cacertificate

// Discloses implements resource.Discloser.
func (module) Discloses(_ string) string {
	return "certificates are for all to see"
}
