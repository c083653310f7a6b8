package block

import "slices"

// Discloses implements resource.Discloser.
func (module) Discloses(key string) string {
	if slices.Contains([]string{"content", "source", "template"}, key) {
		return ""
	}
	return "where the block goes, and what it is known by, is told: put the secret into content"
}
