package line

import "slices"

// Discloses implements resource.Discloser.
func (module) Discloses(key string) string {
	if slices.Contains([]string{"text"}, key) {
		return ""
	}
	return "where the line goes, and what it is known by, is told: put the secret into text"
}
