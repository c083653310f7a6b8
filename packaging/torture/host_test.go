package torture_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"trued.dev/trued/internal/host/hosttest"
)

// A hostWorld is a booted host with the project's package, whose desired state
// is another in each round, and what is known of it.
type hostWorld struct {
	*hosttest.Host
	name  string // of the kind of rounds, for the seed
	watch observer
	state *desire
	usual time.Duration // what a run takes that nobody disturbs, about
	tale  tale

	// saw is how much of what each unit's witness said was judged.
	saw map[string]int
	// command makes a run that is waited for.
	command string

	kills int
	// restarts are starts and reloads that saw something new; needless ones saw
	// what the one before had seen.
	restarts, needless int
}

const (
	sourceDir = "/srv/lab/source"
	eventFile = "/var/log/trued/events.jsonl"
)

// newHostWorld boots a host and brings it to its first state.
func newHostWorld(t *testing.T, name string) *hostWorld {
	t.Helper()
	w := &hostWorld{Host: hosttest.Boot(t, hosttest.Options{Name: "tort-" + name}), name: name, saw: map[string]int{}, command: "trued sync"}
	w.Copy(t, hosttest.Deb(t), "/root/trued.deb")
	w.Write(t, "/etc/trued/trued.yaml", fmt.Sprintf(
		"sources:\n  - name: infra\n    dir: %s\n    group: g\ninterval: 1h\nresync: 2h\nwatch: false\nreport:\n  - file: %s\n", sourceDir, eventFile))
	w.Write(t, "/usr/local/sbin/witness", witness)
	w.Write(t, "/etc/tort-before", earlierText)
	// The agent comes back at once after a kill, and packages are as durable as
	// the machine is.
	w.Write(t, "/etc/systemd/system/trued.service.d/soon.conf", "[Service]\nRestartSec=50ms\n")
	w.Write(t, "/etc/dpkg/dpkg.cfg.d/unsafe-io", "force-unsafe-io\n")
	w.Run(t, fmt.Sprintf(`
		echo svc:x:%[1]d:%[1]d::/:/bin/sh >>/etc/passwd; echo svc:x:%[1]d: >>/etc/group
		chmod 755 /usr/local/sbin/witness; mkdir /var/lib/tort
		chmod 600 /etc/tort-before; chown svc:svc /etc/tort-before`, svc))
	w.Run(t, repository)
	w.state = w.desire(t, firstState())
	w.Run(t, "dpkg -i /root/trued.deb; systemctl start trued.service; trued sync")
	w.tale.skip(t, w)
	w.inOrder(t, "at the start")
	w.watch.expect(w.state.paths, w.state.paths)
	w.watch.observe(w.Root)
	t.Cleanup(w.watch.stop)
	return w
}

// repository makes one that apt knows, of two packages, one of them in two
// versions.
var repository = fmt.Sprintf(`
	mkdir -p /srv/repository; cd /srv/repository
	for deb in %[1]s=1.0 %[1]s=2.0 %[2]s=1.0; do
		name=${deb%%=*} version=${deb#*=} dir=$(mktemp -d)
		mkdir -p $dir/DEBIAN $dir/usr/share/$name
		echo $version >$dir/usr/share/$name/version
		printf 'Package: %%s\nVersion: %%s\nArchitecture: all\nMaintainer: Nobody <nobody@example.com>\nDescription: a test\n' $name $version >$dir/DEBIAN/control
		chmod 755 $dir; dpkg-deb --root-owner-group -Znone -b $dir ${name}_$version.deb >/dev/null
		{ dpkg-deb -f ${name}_$version.deb; echo "Filename: ./${name}_$version.deb"
		echo "Size: $(stat -c %%s ${name}_$version.deb)"; echo "SHA256: $(sha256sum <${name}_$version.deb | cut -d' ' -f1)"; echo; } >>Packages
	done
	rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/*
	echo 'deb [trusted=yes] copy:/srv/repository ./' >/etc/apt/sources.list.d/lab.list
	apt-get -q update`, pkgName, extraPkg)

// desire makes the state of a round the source's. Nothing runs meanwhile.
func (w *hostWorld) desire(t *testing.T, n int) *desire {
	t.Helper()
	d := newDesire(n)
	d.files["../group.yaml"] = "prune_limit: 1000\n"
	d.files["../all.yaml"] = d.manifest.String()
	at := w.Root() + sourceDir
	must(t, os.RemoveAll(at))
	for name, content := range d.files {
		name = filepath.Join(at, "g/files", name)
		must(t, os.MkdirAll(filepath.Dir(name), 0o755))
		must(t, os.WriteFile(name, []byte(content), 0o644))
	}
	return d
}

// A cut is what was done to a run, and when.
type cut struct {
	what  string
	after time.Duration
}

func (c cut) String() string { return fmt.Sprintf("%s after %v", c.what, c.after) }

// round goes on to the next state, with runs that are cut off, and judges what
// comes of it.
func (w *hostWorld) round(t *testing.T, disturb func(t *testing.T, r *rand.Rand) []cut) {
	t.Helper()
	old := w.state
	n := old.n + 1
	w.watch.expect(old.paths, newDesire(n).paths)
	w.state = w.desire(t, n)
	cuts := disturb(t, dice(w.name, n))
	w.kills += len(cuts)
	when := fmt.Sprintf("TORTURE_SEED=%d TORTURE_FROM=%d, %s, cut off: %v", seed(), n, t.Name(), cuts)
	if t.Failed() {
		t.Fatalf("%s", when)
	}
	w.inOrder(t, when)
	w.told(t, old, when)
	w.watch.expect(w.state.paths, w.state.paths)
	if w.watch.watched(t, when); t.Failed() {
		t.Fatalf("%s; the host's log:\n%s", when, w.Run(t, "journalctl -b -u trued.service -u trued-boot.service -n 40 --no-pager; trued history; trued status || true"))
	}
}

// moment is when a run is cut off: at any time of it, more often while it works
// than while it waits to see what it started live.
func (w *hostWorld) moment(r *rand.Rand) time.Duration {
	const waits = time.Second
	if work := w.usual - waits; work > 0 && r.IntN(8) > 0 {
		return time.Duration(r.Int64N(int64(work)))
	}
	return time.Duration(r.Int64N(int64(w.usual)))
}

// mend lets one run end, and notes what it took when it was the only one.
func (w *hostWorld) mend(t *testing.T, alone bool) {
	t.Helper()
	began := time.Now()
	if out, code := w.Try(t, w.command); code != 0 {
		t.Errorf("%s: exit code %d\n%s", w.command, code, out)
	}
	if alone {
		w.usual = time.Since(began)
	}
}

// killsApply kills `trued apply` some times, and lets it end then.
func (w *hostWorld) killsApply(t *testing.T, r *rand.Rand) (cuts []cut) {
	t.Helper()
	for range 1 + r.IntN(6) {
		cmd := w.Command(t.Context(), "trued", "apply", "--wait", "1m")
		after := w.moment(r)
		must(t, cmd.Start())
		time.Sleep(after)      // the moment
		_ = cmd.Process.Kill() // it may be through
		if cmd.Wait() == nil {
			w.usual -= w.usual / 8
			continue
		}
		w.usual += w.usual / 40
		cuts = append(cuts, cut{"apply", after})
		w.claims(t, fmt.Sprint(cuts))
	}
	w.mend(t, len(cuts) == 0)
	return cuts
}

// claims fails when the state says that something was brought about that was
// not: then the plan takes the difference for drift.
func (w *hostWorld) claims(t *testing.T, when string) {
	t.Helper()
	out, _ := w.Try(t, "trued plan -o json 2>/dev/null")
	claimed(t, []byte(out), when)
}

// firstState is 1, or what TORTURE_FROM says: the round after the next is the
// first that is disturbed.
func firstState() (n int) {
	if _, err := fmt.Sscan(os.Getenv("TORTURE_FROM"), &n); err != nil || n < 3 {
		n = 3
	}
	return n - 2
}

// TestApplyKilled kills runs by hand on a booted host.
func TestApplyKilled(t *testing.T) {
	t.Parallel()
	w := newHostWorld(t, "apply")
	w.Run(t, "systemctl stop trued.service")
	w.command = "trued apply --wait 1m"
	w.rounds(t, sample(300, 12), w.killsApply)
	figure(t, "runs by hand killed on a booted host: %s", w.figures())
}

// TestDaemonKilled kills the daemon while it makes runs.
func TestDaemonKilled(t *testing.T) {
	t.Parallel()
	w := newHostWorld(t, "daemon")
	w.rounds(t, sample(250, 8), w.killsDaemon)
	figure(t, "runs of the daemon killed on a booted host: %s", w.figures())
}

// killsDaemon kills the daemon, in a run that it was asked for or in the one
// with which it comes back, some times.
func (w *hostWorld) killsDaemon(t *testing.T, r *rand.Rand) (cuts []cut) {
	t.Helper()
	for i := range 1 + r.IntN(5) {
		ask := i == 0 || r.IntN(2) == 0
		pid := w.Run(t, "systemctl show --value -p MainPID trued.service")
		wait := func() bool { return false }
		if ask {
			wait = w.start(t, "sync")
		}
		after := w.moment(r)
		time.Sleep(after) // the moment
		n := w.Signal(t, "trued.service", syscall.SIGKILL)
		through := wait()
		if through {
			w.usual -= w.usual / 8
		} else if n > 0 {
			w.usual += w.usual / 40
			cuts = append(cuts, cut{either(ask, "sync", "start"), after})
		}
		w.until(t, `test "$(systemctl show --value -p MainPID trued.service)" != `+pid+` && systemctl is-active --quiet trued.service`)
	}
	w.mend(t, len(cuts) == 0)
	return cuts
}

// TestHostKilled takes the power from the host while it makes a run.
func TestHostKilled(t *testing.T) {
	t.Parallel()
	w := newHostWorld(t, "power")
	w.rounds(t, sample(50, 4), w.killsHost)
	figure(t, "hosts killed and booted again: %s", w.figures())
}

// killsHost kills the host once; the run at boot takes up what was cut off.
func (w *hostWorld) killsHost(t *testing.T, r *rand.Rand) []cut {
	t.Helper()
	wait := w.start(t, "sync")
	after := w.moment(r)
	time.Sleep(after) // the moment
	w.Kill(t)
	wait()
	w.Start(t)
	w.until(t, "systemctl is-active --quiet trued.service")
	w.mend(t, false)
	return []cut{{"host in sync", after}}
}

// until waits for a line of shell to succeed, for some minutes.
func (w *hostWorld) until(t *testing.T, line string) {
	t.Helper()
	if _, code := w.Try(t, "for i in $(seq 1500); do if { "+line+"; } >/dev/null 2>&1; then exit 0; fi; sleep 0.2; done; exit 1"); code != 0 {
		out, _ := w.Try(t, line)
		t.Fatalf("not within minutes: %s\n%s", line, out)
	}
}

// start starts a command of the program. What it returns waits for its end and
// reports whether it was a good one.
func (w *hostWorld) start(t *testing.T, words ...string) (wait func() bool) {
	t.Helper()
	cmd := w.Command(t.Context(), append([]string{"trued"}, words...)...)
	must(t, cmd.Start())
	return func() bool { return cmd.Wait() == nil }
}

// rounds goes on until enough was cut off.
func (w *hostWorld) rounds(t *testing.T, kills int, disturb func(*testing.T, *rand.Rand) []cut) {
	t.Helper()
	w.round(t, func(t *testing.T, _ *rand.Rand) []cut {
		w.mend(t, true)
		return nil
	})
	for w.kills < kills {
		w.round(t, disturb)
	}
}

func (w *hostWorld) figures() string {
	_, looks := w.watch.verdict()
	return fmt.Sprintf("%d in %d rounds, %d looks at all paths, %d restarts and reloads and %d that were needless, %d events and %d told again",
		w.kills, w.state.n, looks, w.restarts, w.needless, len(w.tale.seen), w.tale.repeats)
}
