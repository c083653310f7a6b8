package locale

// Discloses implements resource.Discloser.
func (module) Discloses(_ string) string {
	return "the locale is for all to see"
}
