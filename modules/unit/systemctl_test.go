package unit

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/host"
)

// contextUntil returns a context that is cancelled when a line of shell
// succeeds.
func contextUntil(t *testing.T, line string) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	go func() {
		_ = exec.CommandContext(ctx, "bash", "-c", "until "+line+"; do sleep 0.05; done").Run()
		cancel()
	}()
	return ctx, cancel
}

var installed = map[string]string{
	"plain.service":     "[Install]\nWantedBy=multi-user.target\n",
	"many.service":      "[Install]\nWantedBy=multi-user.target graphical.target\nRequiredBy=a.target\nRequiredBy=b.target\n",
	"cleared.service":   "[Install]\nWantedBy=a.target\nWantedBy=\nWantedBy=b.target\n",
	"aliased.service":   "[Install]\nAlias=other.service another.service\nWantedBy=multi-user.target\n",
	"also.service":      "[Install]\nWantedBy=multi-user.target\nAlso=also.socket plain.service\n",
	"also.socket":       "[Socket]\nListenStream=/x\n[Install]\nWantedBy=sockets.target\nAlso=also.service\n",
	"onlyalso.service":  "[Install]\nAlso=plain.service\n",
	"static.service":    "[Service]\nExecStart=/bin/true\n",
	"inst@.service":     "[Install]\nWantedBy=multi-user.target\nDefaultInstance=def\n",
	"spec@.service":     "[Install]\nWantedBy=x-%i.target %p.target\nAlias=al-%i.service\n",
	"foo-spec.service":  "[Install]\nWantedBy=%N.target %j.target\n",
	"continued.service": "[Install]\nWantedBy=a.target \\\n# between\n  b.target\n",
	"dropped.service":   "[Service]\nExecStart=/bin/true\n",
	"t.timer":           "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n",
}

// linksLikeSystemctl holds what is done in a tree against systemctl --root.
func linksLikeSystemctl(t *testing.T, _ *lab) {
	for _, name := range []string{
		"plain.service", "many.service", "cleared.service", "aliased.service", "also.service", "also.socket",
		"onlyalso.service", "static.service", "inst@.service", "inst@one.service", "spec@val.service",
		"foo-spec.service", "continued.service", "dropped.service", "t.timer",
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := installTree(t), installTree(t)
			m := New(host.New(ours, host.Options{})).(*module)
			for _, verb := range []string{"enable", "disable"} {
				if err := m.enable(t.Context(), name, verb == "enable"); err != nil {
					t.Fatal(err)
				}
				sh(t, "systemctl --root="+theirs+" "+verb+" "+name)
				if a, b := links(t, ours), links(t, theirs); !slices.Equal(a, b) {
					t.Errorf("after %s there is\n%s\nand with systemctl\n%s", verb, strings.Join(a, "\n"), strings.Join(b, "\n"))
				}
				for unit := range installed {
					o, err := m.observeOffline(unit)
					if err != nil {
						t.Fatal(err)
					}
					if want := sh(t, "systemctl --root="+theirs+" is-enabled "+unit); o.file != want {
						t.Errorf("after %s, %s is %q, and for systemctl %q", verb, unit, o.file, want)
					}
				}
			}
		})
	}
}

func installTree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	write := func(name, text string) {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range installed {
		write("/usr/lib/systemd/system/"+name, "[Unit]\nDescription=x\n"+text)
	}
	write("/etc/systemd/system/dropped.service.d/a.conf", "[Install]\nWantedBy=dropped.target\n")
	return root
}

// links lists the links below the root's /etc, with what they lead to.
func links(t *testing.T, root string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(filepath.Join(root, "etc"), func(name string, d os.DirEntry, err error) error {
		if err != nil || d.Type() != os.ModeSymlink {
			return err
		}
		target, err := os.Readlink(name)
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(strings.TrimPrefix(name, root)), target)
		}
		list = append(list, strings.TrimPrefix(name, root)+" -> "+strings.TrimPrefix(strings.TrimPrefix(target, root), "/usr"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
