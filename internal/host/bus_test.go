package host

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// A broker that hangs takes connections and says nothing.
func TestABusThatSaysNothingIsGivenUp(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ended := make(chan error)
	go func() {
		to := func(o ...dbus.ConnOption) (*dbus.Conn, error) { return dbus.Dial("unix:path="+socket, o...) }
		_, err := dial(to, (*dbus.Conn).Hello, 10*time.Millisecond)
		ended <- err
	}()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it is connected")
		}
	case <-time.After(time.Minute):
		t.Fatal("it is waited for")
	}
}
