package torture_test

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// inOrder fails when the host is not in its desired state, all of it, or
// something is left over or still owed.
func (w *hostWorld) inOrder(t *testing.T, when string) {
	t.Helper()
	root := w.Root()
	for name, want := range w.state.paths {
		if is := there(root, name); is != want {
			t.Errorf("%s: in the end %s is %q, want %q", when, name, is, want)
		}
	}
	for _, dir := range []string{"/etc", "/srv", "/var/lib/trued", "/usr/local"} {
		w.nothingLeft(t, root, dir, when)
	}
	const look = `
		trued plan >/tmp/plan 2>&1 || { echo "plan $?"; cat /tmp/plan; }
		status=$(trued status -o json | tr -d ' \n')
		for key in failing owed; do grep -o "\"$key\":[^,]*" <<<"$status" | head -n 1; done
		grep -oE '"resources":[0-9]+' <<<"$status"
		cat /proc/sys/net/core/somaxconn
		dpkg-query -W -f '${Status} ${Package} ${Version}\n' 'tort-*' 2>/dev/null | grep installed
		systemctl is-active tort-restart tort-reload tort-tree tort-leaves
		systemctl show --value -p NeedDaemonReload tort-restart tort-reload tort-tree | grep . | uniq
		systemctl list-units --failed --plain --no-legend 'tort-*' 'trued*'`
	got, _ := w.Try(t, look)
	want := fmt.Sprintf("\"failing\":[]\n\"owed\":[]\n\"resources\":%d\n%d\n", len(w.state.shapes), somaxconn+w.state.n)
	if w.state.extra() {
		want += "install ok installed " + extraPkg + " 1.0\n"
	}
	want += "install ok installed " + pkgName + " " + w.state.version() + "\n"
	want += "active\nactive\nactive\n" + either(w.state.odd(), "active", "inactive") + "\nno"
	if got = strings.ReplaceAll(got, "null", "[]"); got != want {
		t.Errorf("%s: in the end the host is\n%s\nand not\n%s", when, got, want)
	}
	w.witnesses(t, when)
}

// nothingLeft fails for what nobody declared.
func (w *hostWorld) nothingLeft(t *testing.T, root, dir, when string) {
	t.Helper()
	ours := strings.HasPrefix(dir, "/srv")
	must(t, filepath.WalkDir(root+dir, func(name string, d fs.DirEntry, err error) error {
		at := strings.TrimPrefix(name, root)
		switch {
		case err != nil:
			return err
		case at == "/srv/lab" || at == "/srv/repository":
			return fs.SkipDir
		case temporary.MatchString(name):
			t.Errorf("%s: %s is left over", when, at)
		case at != dir && (ours || strings.HasPrefix(at, "/etc/tort/")) && w.state.paths[at] == "":
			t.Errorf("%s: %s is there, and was not declared", when, at)
		}
		return nil
	}))
}

// witnesses holds what the units saw against what they had to see: the last of
// it is what is there now, and nothing is seen twice in one boot.
func (w *hostWorld) witnesses(t *testing.T, when string) {
	t.Helper()
	for unit, want := range w.state.sees {
		lines := strings.Split(strings.TrimSpace(w.Read(t, "/var/lib/tort/"+unit)), "\n")
		told := w.saw[unit]
		for i, line := range lines {
			boot, saw := testimony(line)
			if i >= told && i > 0 {
				if boot0, saw0 := testimony(lines[i-1]); boot0 == boot && saw0 == saw {
					w.needless++
					t.Errorf("%s: NEEDLESS: %s saw again what it had seen: %q after %q", when, unit, line, lines[i-1])
					continue
				}
			}
			if i >= told {
				w.restarts++
			}
		}
		w.saw[unit] = len(lines)
		if _, saw := testimony(lines[len(lines)-1]); saw != want {
			t.Errorf("%s: LOST: %s has seen %q and not %q; all of it:\n%s", when, unit, saw, want, strings.Join(lines[max(0, told-1):], "\n"))
		}
	}
}

// testimony splits a line of a witness into the boot and what it saw.
func testimony(line string) (boot, saw string) {
	words := strings.Fields(line)
	if len(words) < 4 {
		return "", line
	}
	return words[0], strings.Join(words[3:], " ")
}
