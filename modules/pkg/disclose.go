package pkg

// Discloses implements resource.Discloser.
func (*Module) Discloses(_ string) string {
	return "what is installed is for all to see"
}
