package checkout

// Discloses implements resource.Discloser.
func (module) Discloses(_ string) string {
	return "it is told of where the commit is not had: put the secret into a token_file"
}
