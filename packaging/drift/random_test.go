package drift_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/report"
)

// A drift is one way in which something on a host is changed by hand, and how it
// is seen to be back.
type drift struct {
	address, do, back string
}

const changes = 200

// manifest is what the host of the random changes is kept true to: enough of each
// kind that no resource is changed so often that it counts as contested.
func manifest() string {
	var b strings.Builder
	for d := range dirs {
		fmt.Fprintf(&b, "- directory: /srv/app/d%d\n  mode: \"0755\"\n  parents: true\n", d)
		for f := range filesEach {
			fmt.Fprintf(&b, "- file: /srv/app/d%d/f%d\n  content: \"content of %d in %d\\n\"\n  owner: root\n  group: root\n  mode: \"0644\"\n", d, f, f, d)
		}
	}
	for l := range links {
		fmt.Fprintf(&b, "- link: /srv/links/l%d\n  target: /srv/app/d0/f%d\n  parents: true\n", l, l)
	}
	for u := range units {
		fmt.Fprintf(&b, "- unit: worker%d.service\n  enabled: true\n  masked: false\n  state: running\n  content: |\n    [Service]\n    ExecStart=/bin/sleep infinity\n    Restart=always\n    [Install]\n    WantedBy=multi-user.target\n  drop_ins:\n    override.conf: |\n      [Service]\n      Nice=1\n", u)
	}
	for s := range swapped {
		fmt.Fprintf(&b, "- file: /srv/swap/s%d/f\n  content: \"whole\\n\"\n  parents: true\n", s)
	}
	for _, p := range packages {
		fmt.Fprintf(&b, "- package: %s\n", p)
	}
	b.WriteString("- package: tiny\n  version: \">= 2\"\n")
	return b.String()
}

// prepare makes what the changes need: a package of two versions, and an editor
// that needs nobody.
const prepare = `mkdir -p /srv/deb; cd /srv/deb
for v in 1 2; do
	mkdir -p tiny/DEBIAN; printf 'Package: tiny\nVersion: %s\nArchitecture: all\nMaintainer: nobody <nobody@example.com>\nDescription: tiny\n' $v >tiny/DEBIAN/control
	dpkg-deb --root-owner-group -b tiny tiny_$v.deb >/dev/null
	{ cat tiny/DEBIAN/control; echo "Filename: ./tiny_$v.deb"; echo "Size: $(stat -c %s tiny_$v.deb)"; echo "SHA256: $(sha256sum tiny_$v.deb | cut -d' ' -f1)"; echo; } >>Packages
done
echo 'deb [trusted=yes] file:/srv/deb ./' >/etc/apt/sources.list.d/tiny.list
apt-get -q update -o Dir::Etc::sourcelist=/etc/apt/sources.list.d/tiny.list -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0
cat >/root/editor <<'END'
#!/bin/sh
if grep -q '^### Anything between' "$1"; then sed -i '/^### Anything between/a # edited' "$1"; else echo '# edited' >>"$1"; fi
END
chmod +x /root/editor`

const (
	dirs, filesEach = 12, 10
	links, units    = 12, 8
	swapped         = 4
)

var packages = []string{"tree", "hello", "sl"}

// The ways in which each kind of thing is changed, of its name.
var (
	fileDrifts = []string{
		"echo broken >%[1]s",
		"truncate -s 3 %[1]s",
		"echo more >>%[1]s",
		"chmod 0600 %[1]s",
		"chown 1 %[1]s",
		// what a list gives beyond the mode is in the mode
		"setfacl -m u:daemon:rw %[1]s",
		"setfacl -m g:daemon:rwx,m::rwx %[1]s",
		"echo new >%[1]s.x && mv -f %[1]s.x %[1]s",
		"rm %[1]s",
		"sed -i s/content/broken/ %[1]s",
		// an old time, and one that an editor keeps
		"echo old >/tmp/old && touch -d 2001-01-01 /tmp/old && cp -p /tmp/old %[1]s",
		"r=$(stat -c %%y %[1]s); echo broken >%[1]s; touch -d \"$r\" %[1]s",
		// an editor's save: a copy is put aside, a new file takes its name
		`perl -e '$f = shift; rename $f, "$f~"; open F, ">", $f; print F "saved"; close F; chmod 0644, $f; unlink "$f~"' %[1]s`,
	}
	linkDrifts = []string{"ln -sfn /nowhere %[1]s", "rm %[1]s", "chown -h 1 %[1]s; ln -sfn /tmp/x %[1]s"}
	unitDrifts = []string{
		"systemctl stop %[1]s", "systemctl disable %[1]s",
		"echo '# edited' >>/etc/systemd/system/%[1]s",
		"rm /etc/systemd/system/multi-user.target.wants/%[1]s",
		"ln -sfn /dev/null /etc/systemd/system/%[1]s; systemctl daemon-reload",
		// which wants a terminal
		"SYSTEMD_EDITOR=/root/editor script -qec 'systemctl edit %[1]s' /dev/null",
		"SYSTEMD_EDITOR=/root/editor script -qec 'systemctl edit --full %[1]s' /dev/null",
	}
	packageDrifts = []string{"dpkg --remove %[1]s", "dpkg --purge %[1]s"}
	tinyDrifts    = []string{"dpkg -i /srv/deb/tiny_1.deb", "dpkg --purge tiny"}
	// Another directory takes the place of one, by renameat2 with RENAME_EXCHANGE.
	swapDrifts = []string{`cp -a %[1]s /srv/swap/new; echo other >/srv/swap/new/f
perl -e '($call, $one, $two) = @ARGV; syscall($call + 0, -100, $one, -100, $two, 2) == 0 or die $!' $([ $(uname -m) = x86_64 ] && echo 316 || echo 276) %[1]s /srv/swap/new; rm -rf /srv/swap/new`}
)

func fileDrift(r *rand.Rand, how string) drift {
	d, f := r.IntN(dirs), r.IntN(filesEach)
	name := fmt.Sprintf("/srv/app/d%d/f%d", d, f)
	return drift{
		"file:" + name, fmt.Sprintf(how, name),
		fmt.Sprintf(`[ "$(cat %[1]s)" = 'content of %[2]d in %[3]d' ] && [ "$(stat -c '%%a %%u %%g' %[1]s)" = '644 0 0' ]`, name, f, d),
	}
}

func linkDrift(r *rand.Rand, how string) drift {
	l := r.IntN(links)
	name := fmt.Sprintf("/srv/links/l%d", l)
	return drift{"link:" + name, fmt.Sprintf(how, name), fmt.Sprintf(`[ "$(readlink %s)" = /srv/app/d0/f%d ]`, name, l)}
}

func unitDrift(r *rand.Rand, how string) drift {
	name := fmt.Sprintf("worker%d.service", r.IntN(units))
	return drift{
		"unit:" + name, fmt.Sprintf(how, name),
		fmt.Sprintf(`systemctl is-active -q %[1]s && systemctl is-enabled -q %[1]s && ! grep -rq edited /etc/systemd/system/%[1]s /etc/systemd/system/%[1]s.d && [ "$(systemctl show -P NeedDaemonReload %[1]s)" = no ]`, name),
	}
}

func packageDrift(r *rand.Rand, how string) drift {
	p := packages[r.IntN(len(packages))]
	return drift{"package:" + p, fmt.Sprintf(how, p), fmt.Sprintf("dpkg-query -W -f '${Status}' %s | grep -q 'ok installed'", p)}
}

func tinyDrift(_ *rand.Rand, how string) drift {
	return drift{"package:tiny", how, "dpkg-query -W -f '${Status} ${Version}' tiny | grep -q 'ok installed 2'"}
}

func swapDrift(r *rand.Rand, how string) drift {
	dir := fmt.Sprintf("/srv/swap/s%d", r.IntN(swapped))
	return drift{"file:" + dir + "/f", fmt.Sprintf(how, dir), fmt.Sprintf("grep -qx whole %s/f", dir)}
}

// drifts returns changes at random, each way at least once and each resource at
// most twice: one more, and it would be contested.
func drifts(r *rand.Rand) []drift {
	var list []drift
	used := map[string]int{}
	add := func(d drift) bool {
		if used[d.address] == 2 {
			return false
		}
		used[d.address]++
		list = append(list, d)
		return true
	}
	kinds := []struct {
		share int
		ways  []string
		make  func(*rand.Rand, string) drift
	}{
		{78, fileDrifts, fileDrift}, {9, linkDrifts, linkDrift}, {9, unitDrifts, unitDrift},
		{2, packageDrifts, packageDrift}, {1, tinyDrifts, tinyDrift}, {1, swapDrifts, swapDrift},
	}
	for _, k := range kinds {
		for _, way := range k.ways {
			for !add(k.make(r, way)) {
			}
		}
	}
	for len(list) < changes {
		at := r.IntN(100)
		for _, k := range kinds {
			if at -= k.share; at < 0 {
				add(k.make(r, k.ways[r.IntN(len(k.ways))]))
				break
			}
		}
	}
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// Changes at random, one after another: each is put back and told of once, as
// drift; none is missed after a storm; and the daemon is none the larger for it.
func TestTwoHundredChangesArePutBackEachToldOfOnce(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("SEED=%d", seed)
	w := begin(t, "web-2", map[string]string{"all.yaml": "- file: /srv/first\n  content: first\n"}, "acl")
	w.Run(t, prepare)
	w.Write(t, "/srv/desired/groups/web/all.yaml", manifest())
	w.Run(t, "trued sync")
	w.settled(t)
	told := len(w.events(t))
	rss := w.memory(t)

	all := drifts(rand.New(rand.NewPCG(seed, 1)))
	want := map[string]int{}
	for i, d := range all {
		if i == changes/2 {
			w.storm(t)
		}
		w.Run(t, d.do)
		w.await(t, d.back)
		want[d.address]++
		w.quiet(t, told, want)
	}
	now := w.events(t)[told:]
	for address, n := range want {
		seen := now.about(address)
		if len(seen) != n {
			t.Errorf("%s was changed %d times and is told of %d times:\n%s", address, n, len(seen), seen)
		}
		for _, e := range seen {
			if e.Type != report.ResourceDrifted || e.Cause != "drift" || e.Outcome != report.Repaired {
				t.Errorf("%s: %s with cause %s and outcome %s", address, e.Type, e.Cause, e.Outcome)
			}
		}
	}
	for _, e := range now {
		if e.Type == report.RunStarted && e.Reason != "drift" {
			t.Errorf("a run was caused by %s", e.Reason)
		}
		if e.Resource != "" && want[e.Resource] == 0 {
			t.Errorf("%s was not changed: %s", e.Resource, e.Message)
		}
	}
	w.Run(t, "sleep 12") // until the daemon has let go of what it keeps for the next drift
	t.Logf("%d changes; the daemon's memory went from %d to %d kB; %s", len(all), rss, w.memory(t),
		w.Run(t, `pid=$(systemctl show -P MainPID trued.service); echo "$(cat /proc/$pid/fdinfo/* | grep -c 'inotify wd') watches, CPU $(systemctl show -P CPUUsageNSec trued.service | sed 's/......$//') ms"; trued status | grep watching`))
	w.Run(t, "trued status")
}

// quiet waits until as much is told as was changed.
func (w world) quiet(t *testing.T, told int, want map[string]int) {
	t.Helper()
	n := 0
	for _, times := range want {
		n += times
	}
	w.await(t, fmt.Sprintf(`[ "$(tail -n +%d %s | grep -c '"resource.drifted"')" -ge %d ] && tail -n 1 %[2]s | grep -q '"run.finished"'`, told+1, eventFile, n))
}

// settled waits until the daemon has looked at what its first run wrote.
func (w world) settled(t *testing.T) {
	t.Helper()
	w.Run(t, "sleep 3")
}

// storm makes ten thousand changes beside and below what is managed.
func (w world) storm(t *testing.T) {
	t.Helper()
	w.Run(t, `for i in $(seq 10000); do echo $i >/srv/app/d0/storm$((i % 50)); done; rm /srv/app/d0/storm*`)
}

// memory is what the daemon holds of the machine's memory, in kB.
func (w world) memory(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(w.Run(t, `grep ^Pss: /proc/$(systemctl show -P MainPID trued.service)/smaps_rollup | tr -dc 0-9`))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
