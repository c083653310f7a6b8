package hostname

// Discloses implements resource.Discloser.
func (module) Discloses(_ string) string {
	return "the host's name is for all to see"
}
