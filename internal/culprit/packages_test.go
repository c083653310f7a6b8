package culprit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"

	"log/slog"
)

const aptHistory = `
Start-Date: 2026-11-28  01:02:03
Commandline: apt-get -o Acquire::http::Proxy=http://u:s3cret@proxy install -y tree hello
Install: tree:amd64 (2.1.0-1), hello:amd64 (2.10-3), libtree1:amd64 (2.1.0-1, automatic)
End-Date: 2026-11-28  01:02:05

Start-Date: 2026-11-28  01:10:00
Commandline: apt remove tree
Requested-By: alice (1000)
Remove: tree:amd64 (2.1.0-1), tree-extra:amd64 (1)
End-Date: 2026-11-28  01:10:02

Start-Date: 2026-11-28  01:20:00
Commandline: /usr/bin/unattended-upgrade
Upgrade: openssl:amd64 (3.0.1, 3.0.2)
End-Date: 2026-11-28  01:20:07

Start-Date: 2026-11-28  01:30:00
Requested-By: mal` + "\x1b[2J" + `lory (1001)
Purge: hello:amd64 (2.10-3)
`

const dpkgLog = `2026-11-28 01:40:00 startup packages remove
2026-11-28 01:40:00 status installed less:amd64 590-2
2026-11-28 01:40:00 remove less:amd64 590-2 <none>
2026-11-28 01:40:01 status half-configured less:amd64 590-2
2026-11-28 01:10:01 remove tree:amd64 2.1.0-1 <none>
`

// machine is a tree with logs in it.
func machine(t *testing.T, logs map[string]string) *Finder {
	t.Helper()
	root := t.TempDir()
	for name, text := range logs {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return New(host.New(root, host.Options{}), slog.New(slog.DiscardHandler))
}

func TestALogOfPackagesSaysWhoChangedOne(t *testing.T) {
	f := machine(t, map[string]string{
		"/var/log/apt/history.log": aptHistory, "/var/log/dpkg.log": dpkgLog,
		"/var/log/zypp/history": "2026-11-28 02:00:00|command|root@web-1|'zypper' 'rm' 'tiny'|\n2026-11-28 02:00:01|remove |tiny|1.0-1|noarch|root@web-1|\n# 2026-11-28 02:00:01 tiny-1.0 removed ok\n",
		"/var/log/pacman.log":   "[2026-11-28T02:10:00+0000] [PACMAN] Running 'pacman -R small'\n[2026-11-28T02:10:01+0000] [ALPM] removed small (1.0-1)\n",
		"/var/log/dnf.rpm.log":  "2026-11-28T02:20:00+0000 INFO --- logging initialized ---\n2026-11-28T03:20:01+0100 SUBDEBUG Erase: lit-tle-1.0-1.noarch\n",
	})
	now := time.Date(2026, 11, 28, 3, 0, 0, 0, time.UTC)
	for name, want := range map[string]string{
		"tree":       "removed by apt, by alice behind sudo, 110 min before",
		"tree:amd64": "removed by apt, by alice behind sudo, 110 min before",
		"libtree1":   "installed by apt-get, 117 min before",
		"openssl":    "upgraded by unattended-upgrade, 100 min before",
		"hello":      `purged, by mal\x1b[2Jlory behind sudo, 90 min before`,
		"less":       "removed by dpkg, 80 min before",
		"tiny":       "removed by zypper, by root, 59 min before",
		"small":      "removed by pacman, 49 min before",
		"lit-tle":    "removed by dnf, 39 min before",
	} {
		c := f.Who([]resource.Claim{{Space: resource.SpacePackage, Name: name}}, time.Time{})
		if c == nil {
			t.Errorf("nobody is known for %s", name)
			continue
		}
		if got := c.Text(now); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"extra", "amd64", "tre", "ssl", ""} {
		if c := f.Who([]resource.Claim{{Space: resource.SpacePackage, Name: name}}, time.Time{}); c != nil {
			t.Errorf("%q was %s", name, c.Text(now))
		}
	}
	after := time.Date(2026, 11, 28, 1, 10, 3, 0, time.UTC)
	if c := f.Who([]resource.Claim{{Space: resource.SpacePackage, Name: "tree"}}, after); c != nil {
		t.Errorf("what came before is told of: %s", c.Text(now))
	}
}

// The time of a log is that of the host's zone now.
func TestALogIsReadByTheZoneOfTheHost(t *testing.T) {
	// One hour to the east all year, in the form that tzfile(5) describes.
	zone := "TZif\x00" + strings.Repeat("\x00", 15) + strings.Repeat("\x00", 16) + "\x00\x00\x00\x01\x00\x00\x00\x04" +
		"\x00\x00\x0e\x10\x00\x00" + "CET\x00"
	f := machine(t, map[string]string{"/var/log/dpkg.log": dpkgLog, "/etc/localtime": zone})
	c := f.Who([]resource.Claim{{Space: resource.SpacePackage, Name: "less"}}, time.Time{})
	if want := time.Date(2026, 11, 28, 0, 40, 0, 0, time.UTC); c == nil || !c.When.Equal(want) {
		t.Errorf("it was %v, want %v", c, want)
	}
}

// Of a large log the end is read, from wherever that begins.
func TestOfALargeLogTheEndIsRead(t *testing.T) {
	long := strings.Repeat("2026-11-27 01:40:00 status installed less:amd64 590-2\n", 3*logTail/50)
	f := machine(t, map[string]string{"/var/log/dpkg.log": "2026-11-26 01:40:00 remove old:amd64 1 <none>\n" + long + dpkgLog})
	if c := f.Who([]resource.Claim{{Space: resource.SpacePackage, Name: "less"}}, time.Time{}); c == nil || c.What != "removed" {
		t.Errorf("the last line says %v", c)
	}
	if c := f.Who([]resource.Claim{{Space: resource.SpacePackage, Name: "old"}}, time.Time{}); c != nil {
		t.Errorf("the whole log was read: %v", c)
	}
}

func FuzzLogs(f *testing.F) {
	f.Add([]byte(aptHistory), "tree")
	f.Add([]byte(dpkgLog), "less")
	f.Add([]byte("[2026-11-28T02:10:01+0000] [ALPM] removed small (1.0-1)"), "small")
	f.Add([]byte("2026-11-28 02:00:01|remove |tiny|1.0-1|noarch|root@web-1|"), "tiny")
	f.Add([]byte("2026-11-28T03:20:01+0100 SUBDEBUG Erase: lit-tle-1.0-1.noarch"), "lit-tle")
	f.Add([]byte("0001-01-01 0:00:00|remove|tiny|||"), "tiny")
	f.Fuzz(func(t *testing.T, log []byte, name string) {
		for _, l := range packageLogs() {
			c := l.read(log, name, time.UTC)
			if c == nil {
				continue
			}
			if c.What == "" || c.When.IsZero() {
				t.Errorf("%s: %+v", l.file, c)
			}
			if text := c.Text(c.When); strings.ContainsAny(text, "\x1b\n\r\x00") {
				t.Errorf("%s says %q", l.file, text)
			}
		}
	})
}

// What this process has a package manager do is not what somebody else did.
func TestOurOwnWorkOnPackagesIsToldOfNobody(t *testing.T) {
	f := machine(t, nil)
	root := f.host.Root()
	add := func(name, text string) {
		t.Helper()
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Date(2026, 11, 28, 2, 0, 0, 0, time.UTC)
	tells := func(want string) {
		t.Helper()
		got := ""
		if c := f.Who([]resource.Claim{{Space: resource.SpacePackage, Name: "tree"}}, time.Time{}); c != nil {
			got = c.Text(now)
		}
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	const apt, dpkg = "/var/log/apt/history.log", "/var/log/dpkg.log"
	install := func(at string) {
		add(apt, "\nStart-Date: 2026-11-28  "+at+"\nCommandline: apt-get -q -y install -- tree\nInstall: tree:amd64 (2.1.0-1)\nEnd-Date: 2026-11-28  "+at+"\n")
		add(dpkg, "2026-11-28 "+at+" install tree:amd64 <none> 2.1.0-1\n2026-11-28 "+at+" status installed tree:amd64 2.1.0-1\n")
	}
	done := f.Ours() // before there are logs
	install("01:00:00")
	done()
	tells("")
	add(dpkg, "2026-11-28 01:10:00 remove tree:amd64 2.1.0-1 <none>\n")
	tells("removed by dpkg, 50 min before")
	done = f.Ours()
	install("01:10:00") // in the same second
	done()
	tells("removed by dpkg, 50 min before")
	add(apt, "\nStart-Date: 2026-11-28  01:20:00\nCommandline: apt purge tree\nRequested-By: alice (1000)\nPurge: tree:amd64 (2.1.0-1)\nEnd-Date: 2026-11-28  01:20:00\n")
	add(dpkg, "2026-11-28 01:20:00 purge tree:amd64 2.1.0-1 <none>\n")
	tells("purged by apt, by alice behind sudo, 40 min before")
	// Once that is told it is not the cause of what comes next, however soon.
	f.Settle([]resource.Claim{{Space: resource.SpacePackage, Name: "tree:amd64"}}, now)
	tells("")
	done = f.Ours()
	install("01:20:01")
	done()
	tells("")
	add(dpkg, "2026-11-28 01:20:02 purge tree:amd64 2.1.0-1 <none>\n")
	tells("purged by dpkg, 39 min before")
	// That of another process of ours is not known, but is no removal.
	install("01:30:00")
	add(dpkg, "2026-11-28 01:30:05 remove tree:amd64 2.1.0-1 <none>\n")
	tells("removed by dpkg, 29 min before")
	// A log that was put aside begins anew.
	for _, name := range []string{apt, dpkg} {
		if err := os.Rename(filepath.Join(root, name), filepath.Join(root, name+".1")); err != nil {
			t.Fatal(err)
		}
	}
	add(dpkg, "2026-11-28 01:40:00 purge tree:amd64 2.1.0-1 <none>\n")
	tells("purged by dpkg, 20 min before")
	// Of a large one the end is read.
	done = f.Ours()
	add(dpkg, strings.Repeat("2026-11-28 01:41:00 status installed less:amd64 590-2\n", logTail/60)+"2026-11-28 01:41:00 install tree:amd64 <none> 2.1.0-1\n")
	done()
	add(dpkg, "2026-11-28 01:50:00 remove tree:amd64 2.1.0-1 <none>\n"+strings.Repeat("2026-11-28 01:51:00 status installed more:amd64 590-2\n", logTail/60))
	tells("removed by dpkg, 10 min before")
}
