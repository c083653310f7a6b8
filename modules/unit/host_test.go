package unit

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/host/units"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

// inside is set where this test's binary runs on a booted host.
const inside = "TRUED_TEST_INSIDE"

// TestOnHost boots a host of each release and runs the cases there.
func TestOnHost(t *testing.T) {
	switch os.Getenv(inside) {
	case "boot":
		whileStarting(t, newLab(t))
		return
	case "cases":
		runCases(t)
		return
	}
	lab := hosttest.New(t)
	binary := filepath.Join(t.TempDir(), "unit.test")
	build := exec.Command("go", "test", "-c", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build the tests for the host: %v\n%s", err, out)
	}
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			h := lab.Boot(t, hosttest.Options{Name: suite, Suite: suite})
			h.Copy(t, binary, "/root/unit.test")
			out, code := h.Try(t, inside+"=cases /root/unit.test -test.timeout=20m -test.v -test.run '^TestOnHost$'")
			for name := range cases {
				t.Run(name, func(t *testing.T) {
					if !strings.Contains(out, "--- PASS: TestOnHost/"+name+" ") {
						t.Error("it did not pass on the host")
					}
				})
			}
			if code != 0 {
				t.Errorf("on the host:\n%s", out)
			}
			t.Run("boot", func(t *testing.T) { boot(t, h) })
		})
	}
}

// runCases runs one case after the other: each of them makes systemd read all
// unit files again, and what is written meanwhile may be missed.
func runCases(t *testing.T) {
	for name, run := range cases {
		t.Run(name, func(t *testing.T) { run(t, newLab(t)) })
	}
}

const running, stopped = units.Running, units.Stopped

// A lab is the running system as one case sees it.
type lab struct {
	*resourcetest.Bench[Unit]
	host *host.Host
}

func newLab(t *testing.T) *lab {
	t.Helper()
	h := host.New("/", host.Options{Backups: host.OpenBackups(t.TempDir())})
	t.Cleanup(h.Systemd().Close)
	return &lab{&resourcetest.Bench[Unit]{Engine: resourcetest.Engine{Tree: sources}, Make: func(fill Unit) (resource.Module, resource.Resource) {
		m := New(h)
		return m, filled(m, fill)
	}}, h}
}

// unit returns a unit as a new run loads it.
func (l *lab) unit(t *testing.T, fill Unit) (resource.Module, *Unit) {
	t.Helper()
	m := New(l.host)
	u := loaded(t, m, fill)
	if err := u.Validate(); err != nil {
		t.Fatalf("Validate: %v", err)
	}
	return m, u
}

func (l *lab) react(t *testing.T, fill Unit, owed ...resource.Reaction) error {
	t.Helper()
	m, u := l.unit(t, fill)
	if _, err := u.React(t.Context(), l.Engine.View(m, u), owed); err != nil {
		return err
	}
	return u.Confirm(t.Context())
}

// foreign writes a unit file that is not managed, as a package does.
func foreign(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join("/usr/lib/systemd/system", name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	hosttest.Sh(t, "systemctl daemon-reload")
}

// boot runs a case from a unit that the boot waits for.
func boot(t *testing.T, h *hosttest.Host) {
	h.Write(t, "/etc/systemd/system/boot-case.service", `[Unit]
Before=multi-user.target
After=dbus.service
[Service]
Type=oneshot
Environment=`+inside+`=boot
ExecStart=/root/unit.test -test.timeout=1m -test.run ^TestOnHost$
StandardOutput=file:/root/boot.out
TimeoutStartSec=30
[Install]
WantedBy=multi-user.target
`)
	h.Write(t, "/usr/lib/systemd/system/after-boot.service", "[Unit]\nAfter=multi-user.target\n"+plainService)
	h.Run(t, "systemctl enable boot-case.service")
	h.Reboot(t)
	if out := h.Read(t, "/root/boot.out"); !strings.Contains(out, "PASS") {
		t.Errorf("while the host booted:\n%s", out)
	}
	h.Run(t, "for i in $(seq 100); do systemctl is-active after-boot.service && exit; sleep 0.1; done; exit 1")
}

// whileStarting starts a unit that cannot start before the boot is over, which
// in turn waits for this very process.
func whileStarting(t *testing.T, l *lab) {
	if state, err := l.host.Systemd().SystemState(t.Context()); err != nil || state != "starting" {
		t.Fatalf("the system is %q, %v", state, err)
	}
	u := Unit{Unit: "after-boot.service", State: running}
	l.Converge(t, u)
	if note := l.InOrder(t, u).Note; note != "its start is queued" {
		t.Errorf("the note is %q", note)
	}
	if err := l.react(t, u, resource.Restart); err != nil {
		t.Fatal(err)
	}
}

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
