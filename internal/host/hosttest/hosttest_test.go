package hosttest_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"trued.dev/trued/internal/host/hosttest"
)

func TestHostHasSystemdOfItsOwn(t *testing.T) {
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			h := hosttest.Boot(t, hosttest.Options{Name: "one", Suite: suite})
			if got := h.Run(t, "cat /proc/1/comm; hostname; . /etc/os-release; echo $VERSION_CODENAME"); got != "systemd\none\n"+suite {
				t.Errorf("the host says it is %q", got)
			}
			if out, code := h.Try(t, "systemctl is-system-running"); out != "running" {
				t.Errorf("the host is %s (%d)", out, code)
			}
			h.Run(t, "busctl --system list >/dev/null")
			h.Run(t, "echo a-line-of-this-host | systemd-cat -t hosttest; journalctl --sync; journalctl -t hosttest | grep -q a-line-of-this-host")
		})
	}
}

func TestDiskOutlivesRebootAndPowerCutAndNothingElse(t *testing.T) {
	t.Parallel()
	h := hosttest.Boot(t, hosttest.Options{})
	const bootID = "cat /proc/sys/kernel/random/boot_id"
	h.Write(t, "/srv/made/kept", "yes")
	h.Write(t, "/run/lost", "yes")
	first := h.Run(t, bootID)

	h.Reboot(t)
	second := h.Run(t, bootID)
	if first == second {
		t.Errorf("boot id %s is that of before the reboot", second)
	}
	h.Kill(t)
	h.Start(t)
	if third := h.Run(t, bootID); third == second {
		t.Errorf("boot id %s is that of before the power cut", third)
	}
	h.Stop(t)
	h.Start(t)
	h.AwaitReboot(t, func() { h.Try(t, "systemctl reboot") })
	if got := h.Read(t, "/srv/made/kept"); got != "yes" {
		t.Errorf("a file on disk holds %q", got)
	}
	if _, code := h.Try(t, "test -e /run/lost"); code != 1 {
		t.Errorf("a file in /run is still there")
	}

	if got, err := os.ReadFile(h.Root() + "/srv/made/kept"); err != nil || string(got) != "yes" {
		t.Errorf("from outside the file holds %q (%v)", got, err)
	}

	other := hosttest.Boot(t, hosttest.Options{})
	if _, code := other.Try(t, "test -e /srv/made"); code != 1 {
		t.Errorf("another host has the first one's file")
	}
}

func TestSignalReachesAUnitFromOutside(t *testing.T) {
	t.Parallel()
	h := hosttest.Boot(t, hosttest.Options{})
	h.Run(t, "systemd-run -q --unit=sleeper --remain-after-exit sleep infinity")
	if n := h.Signal(t, "sleeper.service", syscall.SIGKILL); n != 1 {
		t.Errorf("%d processes were sent a signal", n)
	}
	h.Await(t, `test "$(systemctl show --value -p Result sleeper.service)" = signal`)
	if n := h.Signal(t, "sleeper.service", syscall.SIGKILL); n != 0 {
		t.Errorf("%d processes were left", n)
	}
}

func TestHostsOfALabFindEachOther(t *testing.T) {
	t.Parallel()
	lab := hosttest.New(t)
	a := lab.Boot(t, hosttest.Options{Name: "a", Net: true})
	b := lab.Boot(t, hosttest.Options{Name: "b", Net: true, Suite: "trixie"})
	const reach = "timeout 3 bash -c 'exec 3<>/dev/tcp/b/2222; cat <&3'"
	b.Run(t, "systemd-run -q --unit=hello --property=RuntimeMaxSec=60 systemd-socket-activate --accept --inetd -l 2222 echo hello")
	b.Await(t, "ss -Hltn 'sport = 2222' | grep -q .")
	if out := a.Run(t, reach); out != "hello" {
		t.Errorf("a heard %q of b", out)
	}
	b.Cut(t)
	if out, code := a.Try(t, reach); code == 0 {
		t.Errorf("a heard %q of b without a cable", out)
	}
	b.Heal(t)
	if out := a.Run(t, reach); out != "hello" {
		t.Errorf("a heard %q of b after the cable was back", out)
	}
	if out := a.Run(t, "ip -4 route get 192.0.2.1 | grep -o 'src [0-9.]*'"); out != "src "+a.IP() {
		t.Errorf("the address of the default route is %q, that of the host %q", out, a.IP())
	}

	alone := hosttest.Boot(t, hosttest.Options{})
	if out := alone.Run(t, "ls /sys/class/net"); out != "lo" {
		t.Errorf("a host without a network has %q", out)
	}
}

func TestPackagesComeFromTheMirrorOrALayer(t *testing.T) {
	t.Parallel()
	h := hosttest.Boot(t, hosttest.Options{Net: true, Packages: []string{"rsync"}})
	h.Run(t, "rsync --version; systemctl is-system-running")
	h.Run(t, "apt-get -qq update && apt-get -qq -y install --no-install-recommends tree && tree --version")
}

func TestCopyKeepsModes(t *testing.T) {
	t.Parallel()
	h := hosttest.Boot(t, hosttest.Options{})
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/tool"), []byte("#!/bin/sh\necho ran\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.Copy(t, dir, "/opt/tree")
	h.Copy(t, filepath.Join(dir, "bin/tool"), "/usr/local/bin/tool")
	if got := h.Run(t, "stat -c %a:%U /opt/tree/bin /opt/tree/bin/tool /usr/local/bin/tool; tool"); got != "750:root\n700:root\n700:root\nran" {
		t.Errorf("the copies are %s", strings.ReplaceAll(got, "\n", " "))
	}
}

func TestTestsTalkToHosts(t *testing.T) {
	t.Parallel()
	lab := hosttest.New(t)
	h := lab.Boot(t, hosttest.Options{Name: "web", Net: true})

	in, err := lab.Listen("8080")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "from the test")
	})}
	go func() { _ = server.Serve(in) }()
	t.Cleanup(func() { _ = server.Close() })
	if got := h.Run(t, "curl -sS http://gateway:8080/"); got != "from the test" {
		t.Errorf("the host got %q of the test", got)
	}

	h.Run(t, "systemd-run -q --unit=hello systemd-socket-activate --accept --inetd -l 2222 echo from the host")
	h.Await(t, "ss -Hltn 'sport = 2222' | grep -q .")
	c, err := lab.Dial(t.Context(), "tcp", "web:2222")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := io.ReadAll(c); err != nil || string(got) != "from the host\n" {
		t.Errorf("the test got %q, %v of the host", got, err)
	}
}
