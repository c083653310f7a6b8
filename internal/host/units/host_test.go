package units

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/resource"
)

// TestOnHost holds this package against the systemd of a booted host. What a
// unit goes through there is told by the tests of the kind `unit`.
func TestOnHost(t *testing.T) {
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			if !hosttest.Inside(t, hosttest.Options{Name: "units", Suite: suite}, "") {
				return
			}
			t.Run("links like systemctl's", linksLikeSystemctl)
			t.Run("many units in one go", manyAtOnce)
			t.Run("who is the agent", itself)
		})
	}
}

// sh runs a line of shell and returns what it printed, whatever its exit code.
func sh(t *testing.T, line string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "bash", "-c", line).CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("%s: %v %v", line, ctx.Err(), err)
	}
	return strings.TrimSpace(string(out))
}

func itself(t *testing.T) {
	m := New(host.New("/", host.Options{}))
	if m.itself("hosttest-own.service") || !m.itself("trued.service") {
		t.Error("the agent is not known from others")
	}
}

func manyAtOnce(t *testing.T) {
	h := host.New("/", host.Options{})
	t.Cleanup(h.Systemd().Close)
	m := New(h)
	var units []*Unit
	for i := range 50 {
		on := i%2 == 0
		u := m.New()
		u.Name, u.Enabled, u.State = fmt.Sprintf("many%d.service", i), &on, []string{Running, Stopped}[i%2]
		text := "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
		if err := os.WriteFile("/usr/lib/systemd/system/"+u.Name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		units = append(units, u)
	}
	sh(t, "systemctl daemon-reload; systemctl enable --now many{0..49..2}.service")
	view := resource.View{Owner: func(resource.Claim) (resource.Address, bool) { return resource.Address{}, false }}
	for _, u := range units {
		if found, err := u.Check(t.Context(), view); err != nil || !found.InOrder() {
			t.Errorf("%s: %+v %v", u.Name, found, err)
		}
	}
	sh(t, "systemctl disable --now many0.service")
	if found, err := units[0].Check(t.Context(), view); err != nil || len(found.Diff) != 2 {
		t.Errorf("the second Check is not fresh: %+v %v", found, err)
	}
	if n := len(m.first); n != 50 {
		t.Errorf("%d units were read in one go", n)
	}
	m.Renew()
	if found, err := units[0].Check(t.Context(), view); err != nil || len(found.Diff) != 2 {
		t.Errorf("the first Check of another run is not fresh: %+v %v", found, err)
	}
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
func linksLikeSystemctl(t *testing.T) {
	for _, name := range []string{
		"plain.service", "many.service", "cleared.service", "aliased.service", "also.service", "also.socket",
		"onlyalso.service", "static.service", "inst@.service", "inst@one.service", "spec@val.service",
		"foo-spec.service", "continued.service", "dropped.service", "t.timer",
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := installTree(t), installTree(t)
			m := New(host.New(ours, host.Options{}))
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
