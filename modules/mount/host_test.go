package mount

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

// TestOnHost mounts on booted hosts. They have no loop devices and no swap, which
// TestOnRealDevices has: what is on a device is told from an image, and the programs
// that swap are made up, to fail on demand.
func TestOnHost(t *testing.T) {
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			if !hosttest.Inside(t, hosttest.Options{Name: "mount-" + suite, Suite: suite}, "mkdir -p /srv/other; echo x >/srv/other/file") {
				return
			}
			t.Run("promises", promises)
			t.Run("systemd knows it", systemdKnows)
			t.Run("drift is put back", driftIsPutBack)
			t.Run("other options are taken without unmounting", remounted)
			t.Run("one that is in use stays, and who uses it is told", inUse)
			t.Run("what cannot be mounted is not in fstab", notMountable)
			t.Run("what is in a directory is not hidden", notEmpty)
			t.Run("another device takes the place of one", anotherDevice)
			t.Run("files that leave go before what they are on", nested)
			if suite == "trixie" { // it is the kernel's to tell, whatever the release
				t.Run("what was seen holds until it changes", witnesses)
			}
			t.Run("swap", swaps)
		})
	}
}

func running(t *testing.T) *host.Host {
	t.Helper()
	h := host.New("/", host.Options{Backups: host.OpenBackups(t.TempDir())})
	t.Cleanup(h.Systemd().Close)
	return h
}

// A lab is the host with what an engine remembers of it.
type lab struct {
	*resourcetest.Bench[Resource]
	host *host.Host
	proc string
}

func newLab(t *testing.T) *lab {
	l := &lab{Bench: &resourcetest.Bench[Resource]{}, host: running(t), proc: "/proc"}
	l.Make = func(fill Resource) (resource.Module, resource.Resource) {
		m := New(l.host)
		m.(module).proc = l.proc
		return m, filled(m, fill)
	}
	return l
}

// Fails demands an error that says some words, and a fstab as it was.
func (l *lab) Fails(t *testing.T, fill Resource, wants ...string) {
	t.Helper()
	before := hosttest.Sh(t, "cat /etc/fstab")
	l.Bench.Fails(t, fill, wants...)
	hosttest.Expect(t, "cat /etc/fstab", before)
}

const seen = "cat /etc/fstab; findmnt -rn -o TARGET,SOURCE,FSTYPE,OPTIONS | grep ' */srv'"

func promises(t *testing.T) {
	h := running(t)
	for name, c := range map[string]struct {
		before string
		fill   Resource
	}{
		"new, and its directory": {"", Resource{Target: "/srv/a b/deep", Device: "tmpfs", FSType: "tmpfs", Options: "size=1m,noexec", Parents: true}},
		"a bind mount":           {"mkdir /srv/shown", Resource{Target: "/srv/shown", Device: "/srv/other", FSType: "none", Options: "bind,ro"}},
		"fstab alone":            {"", Resource{Target: "/srv/later", Device: "nas:/export", FSType: "nfs", Options: "noauto", State: "present"}},
		"mounted, not in fstab":  {"mkdir /srv/m; mount -t tmpfs mine /srv/m", Resource{Target: "/srv/m", Device: "mine", FSType: "tmpfs"}},
		"in fstab, not mounted":  {"mkdir /srv/m; echo 'tmpfs /srv/m tmpfs noauto,nodev 0 0' >>/etc/fstab", Resource{Target: "/srv/m", Device: "tmpfs", FSType: "tmpfs"}},
		"another in its place":   {"mkdir /srv/m; echo 'old /srv/m tmpfs noauto 0 0' >>/etc/fstab; mount /srv/m", Resource{Target: "/srv/m", Device: "new", FSType: "tmpfs"}},
		"unmounted":              {"mkdir /srv/m; mount -t tmpfs mine /srv/m; echo 'mine /srv/m tmpfs noauto 0 0' >>/etc/fstab", Resource{Target: "/srv/m", State: "unmounted"}},
		"absent":                 {"mkdir /srv/m; echo 'mine /srv/m tmpfs noauto,size=2m 0 0' >>/etc/fstab; mount /srv/m", Resource{Target: "/srv/m", State: "absent"}},
	} {
		t.Run(name, func(t *testing.T) {
			hosttest.Sh(t, "echo '# a comment of people' >/etc/fstab;"+c.before+"; systemctl daemon-reload")
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource { return filled(m, c.fill) },
				Dirs:     []string{"/srv"},
				State: func(t testing.TB) string {
					// A mount that is made anew is listed last.
					return hosttest.Sh(t, seen+" | sort")
				},
			})
			hosttest.Sh(t, "umount /srv/m; rm -rf /srv/m /srv/shown")
		})
	}
}

func systemdKnows(t *testing.T) {
	l := newLab(t)
	fill := Resource{Target: "/srv/known", Device: "tmpfs", FSType: "tmpfs", Options: "size=1m", Parents: true}
	l.Converge(t, fill)
	const show = "systemctl show -P ActiveState -P Options -P NeedDaemonReload -P SourcePath srv-known.mount"
	if got := hosttest.Sh(t, show); !strings.Contains(got, "active") || !strings.Contains(got, "/etc/fstab") || strings.Contains(got, "yes") {
		t.Errorf("systemd says %q", got)
	}
	l.Leave(t, fill)
	hosttest.Expect(t, "systemctl show -P LoadState -P ActiveState srv-known.mount | xargs; ls -d /srv/known", "not-found inactive\nls: cannot access '/srv/known': No such file or directory")
}

func driftIsPutBack(t *testing.T) {
	l := newLab(t)
	fill := Resource{Target: "/srv/drifts", Device: "tmpfs", FSType: "tmpfs", Options: "nosuid,size=1m", Parents: true}
	l.Converge(t, fill)
	for name, line := range map[string]string{
		"unmounted":            "umount /srv/drifts",
		"an entry that is cut": "sed -i '\\,/srv/drifts,d' /etc/fstab",
		"an entry that is off": "sed -i 's,nosuid,suid,' /etc/fstab",
		"read only":            "mount -o remount,ro /srv/drifts",
		"everything":           "umount /srv/drifts; rmdir /srv/drifts; : >/etc/fstab",
	} {
		t.Run(name, func(t *testing.T) {
			hosttest.Sh(t, line)
			if found := l.Check(t, fill); len(found.Diff) == 0 {
				t.Fatal("it is not seen")
			}
			l.Converge(t, fill)
			hosttest.Expect(t, "grep /srv/drifts /etc/fstab; findmnt -rno OPTIONS /srv/drifts | grep -o '^rw,nosuid'", "tmpfs /srv/drifts tmpfs nosuid,size=1m 0 0\nrw,nosuid")
		})
	}
	l.Leave(t, fill)
}

func remounted(t *testing.T) {
	l := newLab(t)
	fill := Resource{Target: "/srv/re", Device: "tmpfs", FSType: "tmpfs", Options: "size=1m", Parents: true}
	l.Converge(t, fill)
	hosttest.Sh(t, "echo data >/srv/re/file")
	fill.Options = "size=2m,noexec"
	l.Converge(t, fill)
	hosttest.Expect(t, "cat /srv/re/file; findmnt -rno OPTIONS /srv/re | grep -o noexec; findmnt -brno SIZE /srv/re", "data\nnoexec\n2097152")
	fill.Options = "size=2m"
	l.Converge(t, fill)
	hosttest.Expect(t, "findmnt -rno OPTIONS /srv/re | grep -o noexec", "")
	fill.Options = "size=oops"
	l.Fails(t, fill, `cannot change the options of "/srv/re" while it is mounted`, "size")
	hosttest.Expect(t, "cat /srv/re/file", "data")
	l.Leave(t, Resource{Target: "/srv/re", Device: "tmpfs", FSType: "tmpfs", Options: "size=2m", Parents: true})
}

func inUse(t *testing.T) {
	l := newLab(t)
	fill := Resource{Target: "/srv/busy", Device: "tmpfs", FSType: "tmpfs", Parents: true}
	l.Converge(t, fill)
	for how, c := range map[string]struct{ command, want string }{
		"works there": {"cd /srv/busy; exec sleep infinity", "works in /srv/busy"},
		"has a file":  {"exec sleep infinity >/srv/busy/log", "has /srv/busy/log open"},
		"runs there":  {"cp /bin/sleep /srv/busy/sleeps; exec /srv/busy/sleeps infinity", "runs /srv/busy/sleeps"},
	} {
		t.Run(how, func(t *testing.T) {
			holder := exec.Command("bash", "-c", c.command)
			if err := holder.Start(); err != nil {
				t.Fatal(err)
			}
			hosttest.Sh(t, fmt.Sprintf("until readlink /proc/%d/exe | grep sleep; do sleep 0.05; done", holder.Process.Pid))
			l.Fails(t, Resource{Target: "/srv/busy", State: "absent"}, `"/srv/busy", which is in use`, fmt.Sprintf("(process %d) %s", holder.Process.Pid, c.want))
			hosttest.Expect(t, "findmnt -rno TARGET /srv/busy", "/srv/busy")
			if err := errors.Join(holder.Process.Kill(), ignoreExit(holder.Wait())); err != nil {
				t.Fatal(err)
			}
		})
	}
	hosttest.Sh(t, "mkdir /srv/busy/below; mount -t tmpfs x /srv/busy/below")
	l.Fails(t, Resource{Target: "/srv/busy", State: "absent"}, "/srv/busy/below is mounted below it")
	hosttest.Sh(t, "umount /srv/busy/below")
	l.Leave(t, fill)
}

func ignoreExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

func notMountable(t *testing.T) {
	l := newLab(t)
	hosttest.Sh(t, "mkdir -p /srv/n; truncate -s 4M /srv/disk.img; mkswap -q /srv/disk.img")
	l.Fails(t, Resource{Target: "/srv/n", Device: "UUID=no-such", FSType: "ext4"}, "there is no UUID=no-such")
	l.Fails(t, Resource{Target: "/srv/n", Device: "/dev/nosuch", FSType: "ext4"}, "there is no /dev/nosuch")
	l.Fails(t, Resource{Target: "/srv/n", Device: "/srv/disk.img", FSType: "ext4", Options: "loop"}, "/srv/disk.img holds swap, and the manifest says ext4")
	l.Fails(t, Resource{Target: "/srv/n", Device: "x", FSType: "nosuchfs"}, "cannot mount x on", "nosuchfs")
	l.Fails(t, Resource{Target: "/srv/nowhere", Device: "x", FSType: "tmpfs"}, `there is no directory "/srv/nowhere"`)
	hosttest.Expect(t, "blkid -p -o value -s TYPE /srv/disk.img; systemctl show -P LoadState srv-n.mount", "swap\nnot-found")
	hosttest.Sh(t, "mount -t tmpfs x /srv/n")
	l.Fails(t, Resource{Target: "/srv/n", Device: "x", FSType: "ramfs"}, "is of type tmpfs, and the manifest says ramfs")
	hosttest.Sh(t, "umount /srv/n")
	l.Fails(t, Resource{Target: "/", Device: "x", FSType: "tmpfs"}, "what the host runs from is not unmounted")
	hosttest.Expect(t, "touch /written && echo yes", "yes")
	l.Fails(t, Resource{Target: "/srv/n", Device: "//nowhere/share", FSType: "cifs"}, "cannot mount //nowhere/share on")
}

func notEmpty(t *testing.T) {
	l := newLab(t)
	hosttest.Sh(t, "mkdir -p /srv/full; echo precious >/srv/full/file")
	fill := Resource{Target: "/srv/full", Device: "tmpfs", FSType: "tmpfs"}
	l.Fails(t, fill, `"/srv/full" is not empty: "file"`, "force: true")
	hosttest.Expect(t, "cat /srv/full/file", "precious")
	fill.Force = true
	l.Converge(t, fill)
	l.Leave(t, fill)
	hosttest.Expect(t, "cat /srv/full/file", "precious")
}

func anotherDevice(t *testing.T) {
	l := newLab(t)
	fill := Resource{Target: "/srv/swapped", Device: "one", FSType: "tmpfs", Parents: true}
	l.Converge(t, fill)
	fill.Device, fill.FSType, fill.Options = "/srv/other", "none", "bind"
	l.Converge(t, fill)
	hosttest.Expect(t, "cat /srv/swapped/file; findmnt -rn /srv/swapped | wc -l", "x\n1")
	l.Leave(t, fill)
}

func nested(t *testing.T) {
	l := newLab(t)
	outer := Resource{Target: "/srv/o", Device: "tmpfs", FSType: "tmpfs", Parents: true}
	inner := Resource{Target: "/srv/o/i", Device: "tmpfs", FSType: "tmpfs", Parents: true}
	l.Converge(t, outer)
	l.Converge(t, inner)
	l.Leave(t, inner)
	l.Leave(t, outer)
	hosttest.Expect(t, "ls -d /srv/o 2>/dev/null; grep /srv/o /etc/fstab", "")
}

// swaps has programs of its own, which note in a list of their own what they are
// told, and fail on demand.
func swaps(t *testing.T) {
	l := newLab(t)
	l.proc = t.TempDir()
	list := filepath.Join(l.proc, "swaps")
	const head = "Filename\tType\tSize\tUsed\tPriority\n"
	if err := errors.Join(os.Symlink("/proc/self", filepath.Join(l.proc, "self")), os.WriteFile(list, []byte(head), 0o644)); err != nil {
		t.Fatal(err)
	}
	for name, does := range map[string]string{
		"swapon":  `printf '%s file 1 0 -2\n' "${@: -1}" | sed 's,swap file ,swap\\040file ,' >>` + list,
		"swapoff": "head -1 " + list + " >" + list + ".new; mv " + list + ".new " + list,
	} {
		text := "#!/bin/bash\necho " + name + " \"$@\" >>/run/swaps.log\n[ -e /run/swap.fails ] && { echo cannot; exit 1; }\n" + does + "\n"
		if err := os.WriteFile("/usr/local/sbin/"+name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	hosttest.Sh(t, "touch '/srv/swap file'; touch /run/swap.fails")
	fill := Resource{Target: "/srv/swap file", FSType: swap, Options: "pri=5,nofail"}
	l.Fails(t, fill, "cannot mount /srv/swap file", "cannot")
	hosttest.Sh(t, "rm /run/swap.fails")
	l.Converge(t, fill)
	hosttest.Expect(t, `grep swap /etc/fstab; tail -1 /run/swaps.log`, `/srv/swap\040file none swap pri=5,nofail 0 0`+"\nswapon -o pri=5,nofail -- /srv/swap file")
	l.Fails(t, Resource{Target: "/srv/none", FSType: swap}, "there is no /srv/none")
	hosttest.Sh(t, "touch /run/swap.fails")
	l.Fails(t, Resource{Target: "/srv/swap file", FSType: swap, State: "absent"}, "cannot stop swapping")
	hosttest.Sh(t, "rm /run/swap.fails")
	l.Leave(t, fill)
	hosttest.Expect(t, "grep -c swap /etc/fstab; tail -1 /run/swaps.log", "0\nswapoff -- /srv/swap file")
	hosttest.Sh(t, "rm /usr/local/sbin/swap*")
}
