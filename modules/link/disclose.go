package link

// Discloses implements resource.Discloser.
func (module) Discloses(_ string) string {
	return "what a link points to is for all to see"
}
