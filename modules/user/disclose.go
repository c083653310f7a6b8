package user

// Discloses implements resource.Discloser.
func (module) Discloses(key string) string {
	if key == "password" || key == "lock" || key == "remove_home" {
		return ""
	}
	return "every process can read the arguments that useradd and usermod are started with, and every user passwd"
}
