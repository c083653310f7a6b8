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
		fmt.Fprintf(&b, "- unit: worker%d.service\n  enabled: true\n  masked: false\n  state: running\n  content: |\n    [Service]\n    ExecStart=/bin/sleep infinity\n    Restart=always\n    [Install]\n    WantedBy=multi-user.target\n", u)
	}
	for _, p := range packages {
		fmt.Fprintf(&b, "- package: %s\n", p)
	}
	return b.String()
}

const (
	dirs, filesEach = 12, 10
	links, units    = 12, 8
)

var packages = []string{"tree", "hello", "sl"}

// fileDrifts are the ways in which a file is changed.
var fileDrifts = []string{
	"echo broken >%[1]s",
	"truncate -s 3 %[1]s",
	"echo more >>%[1]s",
	"chmod 0600 %[1]s",
	"chown 1 %[1]s",
	"echo new >%[1]s.x && mv -f %[1]s.x %[1]s",
	"rm %[1]s",
	"sed -i s/content/broken/ %[1]s",
	// an old time, and one that an editor keeps
	"echo old >/tmp/old && touch -d 2001-01-01 /tmp/old && cp -p /tmp/old %[1]s",
	"r=$(stat -c %%y %[1]s); echo broken >%[1]s; touch -d \"$r\" %[1]s",
	// an editor's save: a copy is put aside, a new file takes its name
	`perl -e '$f = shift; rename $f, "$f~"; open F, ">", $f; print F "saved"; close F; chmod 0644, $f; unlink "$f~"' %[1]s`,
}

// drifts returns changes at random, each resource at most twice.
func drifts(r *rand.Rand) []drift {
	var list []drift
	used := map[string]int{}
	add := func(d drift) {
		if used[d.address]++; used[d.address] <= 2 {
			list = append(list, d)
		}
	}
	for len(list) < changes {
		switch k := r.IntN(100); {
		case k < 78:
			d, f := r.IntN(dirs), r.IntN(filesEach)
			name := fmt.Sprintf("/srv/app/d%d/f%d", d, f)
			add(drift{
				"file:" + name, fmt.Sprintf(fileDrifts[r.IntN(len(fileDrifts))], name),
				fmt.Sprintf(`[ "$(cat %[1]s)" = 'content of %[2]d in %[3]d' ] && [ "$(stat -c '%%a %%u %%g' %[1]s)" = '644 0 0' ]`, name, f, d),
			})
		case k < 88:
			l := r.IntN(links)
			name := fmt.Sprintf("/srv/links/l%d", l)
			do := []string{"ln -sfn /nowhere %s", "rm %s", "chown -h 1 %[1]s; ln -sfn /tmp/x %[1]s"}[r.IntN(3)]
			add(drift{"link:" + name, fmt.Sprintf(do, name), fmt.Sprintf(`[ "$(readlink %s)" = /srv/app/d0/f%d ]`, name, l)})
		case k < 98:
			name := fmt.Sprintf("worker%d.service", r.IntN(units))
			do := []string{
				"systemctl stop %s", "systemctl disable %s",
				"echo '# edited' >>/etc/systemd/system/%s",
				"rm /etc/systemd/system/multi-user.target.wants/%s",
				"ln -sfn /dev/null /etc/systemd/system/%[1]s; systemctl daemon-reload",
			}[r.IntN(5)]
			add(drift{
				"unit:" + name, fmt.Sprintf(do, name),
				fmt.Sprintf("systemctl is-active -q %[1]s && systemctl is-enabled -q %[1]s && ! grep -q edited /etc/systemd/system/%[1]s && [ \"$(systemctl show -P NeedDaemonReload %[1]s)\" = no ]", name),
			})
		default:
			p := packages[r.IntN(len(packages))]
			do := []string{"dpkg --remove %s", "dpkg --purge %s"}[r.IntN(2)]
			add(drift{"package:" + p, fmt.Sprintf(do, p), fmt.Sprintf("dpkg-query -W -f '${Status}' %s | grep -q 'ok installed'", p)})
		}
	}
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
	w := begin(t, "web-2", map[string]string{"all.yaml": manifest()})
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
