package command

// Discloses implements resource.Discloser.
func (module) Discloses(key string) string {
	switch key {
	case "stdin":
		return ""
	case "env":
		return "what a process is started with stays in /proc/PID/environ: give it to the command by stdin"
	}
	return "every process can read the arguments of another: give it to the command by stdin"
}
