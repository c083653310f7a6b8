package cron

// Discloses implements resource.Discloser.
func (module) Discloses(_ string) string {
	return "every process can read the arguments of another: put the secret into a file of mode 0600 that the command reads"
}
