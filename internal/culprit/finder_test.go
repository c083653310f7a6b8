package culprit

import (
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// A wrong hint is worse than none: who was seen before something was missed may
// not have been the last.
func TestNobodyIsNamedWhoWasSeenBeforeSomethingWasMissed(t *testing.T) {
	for name, miss := range map[string]func(w *watcher){
		"the queue is full":                 func(w *watcher) { w.take(record(unix.FAN_Q_OVERFLOW, 0)) },
		"too many commands at once":         func(w *watcher) { w.take(record(unix.FAN_OPEN_EXEC, 4000001)) },
		"the kernel says what nobody knows": func(w *watcher) { w.take([]byte{1}) },
	} {
		t.Run(name, func(t *testing.T) {
			w := &watcher{dirs: map[string]*directory{}, touches: newTouches(), commands: func(int) bool { return false }}
			f := New(host.New("/", host.Options{}), slog.New(slog.DiscardHandler))
			f.watcher = w
			began := time.Now()
			cron := []resource.Claim{{Space: resource.SpaceUnit, Name: "cron.service"}}
			by := unknown(4000000)
			by.comm, by.uid = "systemctl", 0
			ask := func() { f.asked(by, request{what: "stopped", units: []string{"cron.service"}}) }
			ask()
			if f.Who(cron, began) == nil {
				t.Fatal("nobody is known")
			}
			miss(w)
			if c := f.Who(cron, began); c != nil {
				t.Errorf("it is %+v", c)
			}
			ask()
			if f.Who(cron, began) == nil {
				t.Error("nobody is known who came after that")
			}
		})
	}
}

// A broker that hangs must not keep the daemon from its end.
func TestABusThatSaysNothingIsLeft(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+socket)
	stop := New(host.New("/", host.Options{}), slog.New(slog.DiscardHandler)).Start()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ended := make(chan bool)
	go func() {
		stop()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("it is waited for")
	}
}
