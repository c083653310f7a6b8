package kernelmodule

// Discloses implements resource.Discloser.
func (module) Discloses(_ string) string {
	return "every process can read the arguments that modprobe is started with"
}
