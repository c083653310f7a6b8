package group

// Discloses implements resource.Discloser.
func (module) Discloses(_ string) string {
	return "every process can read the arguments that groupadd is started with, and every user the groups"
}
