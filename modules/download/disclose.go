package download

import "slices"

// Discloses implements resource.Discloser.
func (module) Discloses(key string) string {
	if slices.Contains([]string{"url", "mirrors"}, key) {
		return ""
	}
	return "it is told of where the file is not had: put the secret into a token_file"
}
