package host_test

import (
	"os"
	"path/filepath"
	"testing"

	"trued.dev/trued/internal/host"
)

// What dpkg and pacman list is theirs. Each is held against the real program by
// the tests of packages; rpm is asked there.
func TestPathsOfPackagesAreKnown(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		owned []string
		free  []string
	}{
		"dpkg": {
			map[string]string{
				"var/lib/dpkg/info/a.list": "/.\n/etc\n/etc/a.conf\n/lib/a.so\n", "var/lib/dpkg/info/b:amd64.list": "/usr/bin/b\n",
				"var/lib/dpkg/info/a.md5sums": "0 etc/sum\n",
			},
			[]string{"/etc/a.conf", "/etc", "/lib/a.so", "/usr/lib/a.so", "/bin/b"}, []string{"/etc/b.conf", "/etc/sum", "/etc/a"},
		},
		"pacman": {
			map[string]string{
				"var/lib/pacman/local/ALPM_DB_VERSION": "9\n",
				"var/lib/pacman/local/a-1.0-1/desc":    "%NAME%\na\n",
				"var/lib/pacman/local/a-1.0-1/files":   "%FILES%\netc/\netc/a.conf\nusr/bin/a\n\n%BACKUP%\netc/kept.conf\t0\n",
				"var/lib/pacman/local/none-1-1/desc":   "%NAME%\nnone\n",
			},
			[]string{"/etc/a.conf", "/etc", "/usr/bin/a", "/bin/a"}, []string{"/etc/kept.conf", "/etc/b.conf", "/%FILES%"},
		},
		"none": {nil, nil, []string{"/etc/a.conf"}},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for file, text := range c.files {
				at := filepath.Join(root, file)
				if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			h := host.New(root, host.Options{})
			for want, paths := range map[bool][]string{true: c.owned, false: c.free} {
				for _, path := range paths {
					if got, err := h.Packaged(path); got != want || err != nil {
						t.Errorf("that a package owns %s is %v, error %v", path, got, err)
					}
				}
			}
		})
	}
}
