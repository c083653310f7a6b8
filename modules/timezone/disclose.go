package timezone

// Discloses implements resource.Discloser.
func (module) Discloses(_ string) string {
	return "the time zone is for all to see"
}
