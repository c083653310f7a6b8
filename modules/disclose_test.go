package modules_test

import (
	"testing"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/modules"
)

// What names a part of a file, or a place, is in claims and errors: a secret stands
// in what is written alone.
func TestASecretStandsWhereNothingTellsOfIt(t *testing.T) {
	byKind := map[string]resource.Discloser{}
	for _, m := range modules.All(host.New(t.TempDir(), host.Options{})) {
		if d, ok := m.(resource.Discloser); ok {
			byKind[m.Kind()] = d
		}
	}
	for kind, keys := range map[string]struct{ kept, told []string }{
		"line":     {[]string{"text"}, []string{"match", "after", "before", "path"}},
		"block":    {[]string{"content", "source", "template"}, []string{"comment", "path"}},
		"ini":      {[]string{"value"}, []string{"section", "key", "path"}},
		"download": {[]string{"url", "mirrors"}, []string{"checksum", "token_file", "ca_file", "owner"}},
		"archive":  {[]string{"url", "mirrors", "source"}, []string{"checksum", "creates", "token_file"}},
		"checkout": {nil, []string{"url", "tag", "commit", "ssh_key_file"}},
		"command":  {[]string{"stdin"}, []string{"env", "argv", "unless", "cwd"}},
	} {
		for _, key := range keys.kept {
			if why := byKind[kind].Discloses(key); why != "" {
				t.Errorf("%s: %s: %s", kind, key, why)
			}
		}
		for _, key := range keys.told {
			if byKind[kind].Discloses(key) == "" {
				t.Errorf("%s: %s holds a secret", kind, key)
			}
		}
	}
}
