package ini

import "slices"

// Discloses implements resource.Discloser.
func (module) Discloses(key string) string {
	if slices.Contains([]string{"value"}, key) {
		return ""
	}
	return "the file, section and key are told: put the secret into value"
}
