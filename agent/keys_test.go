package agent_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"trued.dev/trued/agent"
)

const (
	teamKey  = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN1rvNbVhsVmQ2bHcMGbBvmCXZgXJmhvHcxoUmRgGDbk"
	otherKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB5wQl8VbC9zD5x7dMoT4mEdpBqgmhmM4X7TttD4jhCo"
	handKey  = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE1wCGmYEn7TVUXDfOKlcTXNIRCO4W0oOt9Wld6eQMmX"
)

// The keys of a user over several commits: "by hand" stands for a key that somebody
// adds to the file between two of them.
func TestKeysOfAUserOverSeveralCommits(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: keys belong to the user that they let in")
	}
	const (
		only  = "- {authorized_key: a, user: ada, key: TEAM, exclusive: true}\n"
		kept  = "- {authorized_key: a, user: ada, key: TEAM, exclusive: true, prune: false}\n"
		a     = "- {authorized_key: a, user: ada, key: TEAM}\n"
		stays = "- {authorized_key: a, user: ada, key: TEAM, prune: false}\n"
		b     = "- {authorized_key: b, user: ada, key: TEAM}\n"
		other = "- {authorized_key: b, user: ada, key: OTHER}\n"
		two   = "- {authorized_key: a, user: ada, keys: [TEAM, OTHER], exclusive: true}\n"
		twice = "- {authorized_key: a, user: ada, keys: [TEAM, HAND]}\n"
		hand  = "by hand"
		none  = good
	)
	for name, c := range map[string]struct {
		steps []string
		want  string
	}{
		"the only one is renamed later on":       {[]string{only, a, hand, b}, "TEAM\nHAND\n"},
		"the only one gets a neighbour later":    {[]string{only, a, hand, a + other}, "TEAM\nHAND\nOTHER\n"},
		"the only one is renamed at once":        {[]string{two, b}, "TEAM\n"},
		"what stays is replaced by another":      {[]string{strings.Replace(two, "exclusive", "prune: false, exclusive", 1), other}, "TEAM\nOTHER\n"},
		"what stays is the only one no more":     {[]string{strings.Replace(two, "exclusive", "prune: false, exclusive", 1), stays}, "TEAM\nOTHER\n"},
		"a key by hand, which had left before":   {[]string{twice, a, hand, only, none}, "HAND\n"},
		"a key by hand, and another all of it":   {[]string{only, a, hand, only, none}, "HAND\n"},
		"what stays no more takes its own along": {[]string{kept, stays, a, none}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			k := ruled(t)
			put(t, filepath.Join(k.root, "etc/passwd"), "root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n")
			if err := os.MkdirAll(filepath.Join(k.root, "home"), 0o755); err != nil {
				t.Fatal(err)
			}
			home := filepath.Join(k.root, "home/ada")
			if err := os.Mkdir(home, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(home, 1000, 1000); err != nil {
				t.Fatal(err)
			}
			keys := strings.NewReplacer("TEAM", teamKey, "OTHER", otherKey, "HAND", handKey)
			file := filepath.Join(home, ".ssh/authorized_keys")
			for _, step := range c.steps {
				if step == hand {
					text, err := os.ReadFile(file)
					if err == nil {
						err = os.WriteFile(file, append(text, handKey+"\n"...), 0o600)
					}
					if err != nil {
						t.Fatal(err)
					}
					continue
				}
				k.write("groups/web/a.yaml", keys.Replace(step))
				if verdict, summary := k.ask(); verdict != agent.InOrder {
					t.Fatalf("with %q: %s: %s", step, verdict, summary)
				}
			}
			k.holds("home/ada/.ssh/authorized_keys", keys.Replace(c.want))
		})
	}
}
