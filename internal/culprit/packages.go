package culprit

import (
	"bytes"
	"path"
	"slices"
	"strings"
	"time"

	"trued.dev/trued/internal/resource"
)

// A packageLog is what one package manager writes down of its work, and how to
// read it: the last of its entries that names a package.
type packageLog struct {
	file string
	read func(log []byte, name string, zone *time.Location) *Culprit
}

func packageLogs() []packageLog {
	return []packageLog{
		{"/var/log/apt/history.log", readApt},
		{"/var/log/dpkg.log", readDpkg},
		{"/var/log/dnf.rpm.log", readDnf},
		{"/var/log/zypp/history", readZypper},
		{"/var/log/pacman.log", readPacman},
	}
}

// logTail is how much of the end of a log is read.
const logTail = 256 << 10

// ofPackage returns who changed a package last, by the logs of the package
// managers. These say it by the second.
func (f *Finder) ofPackage(name string, since time.Time) *Culprit {
	name = packageName(name)
	zone := f.zone()
	var last *Culprit
	for i, l := range packageLogs() {
		log, err := f.foreign(i, name)
		if err != nil {
			continue
		}
		c := l.read(log, name, zone)
		if c == nil || c.When.Before(since.Truncate(time.Second)) {
			continue
		}
		if last == nil || !sameChange(last, c) {
			last = c
		}
	}
	return last
}

// packageName is a package's name without the architecture.
func packageName(name string) string {
	name, _, _ = strings.Cut(name, ":")
	return name
}

// sameChange reports whether what another log says is no later change: the first
// log knows most of one and the same.
func sameChange(first, c *Culprit) bool {
	if c.When.After(first.When.Add(time.Minute)) {
		return false
	}
	return !c.When.After(first.When) || goes(c.What) == goes(first.What)
}

// goes reports whether what was done to a package took it away.
func goes(what string) bool { return what == "removed" || what == "purged" }

// zone is the time zone of the host now, which need not be that of when this
// process began.
func (f *Finder) zone() *time.Location {
	data, err := f.host.ReadFile("/etc/localtime", 1<<20)
	if err != nil {
		return time.UTC
	}
	zone, err := time.LoadLocationFromTZData("local", data)
	if err != nil {
		return time.Local
	}
	return zone
}

// readApt reads apt's history: paragraphs of "Key: value".
func readApt(log []byte, name string, zone *time.Location) *Culprit {
	var last *Culprit
	for entry := range bytes.SplitSeq(log, []byte("\n\n")) {
		c := &Culprit{}
		names := false
		for line := range strings.Lines(string(entry)) {
			key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			switch key {
			case "Start-Date":
				c.When, _ = time.ParseInLocation("2006-01-02  15:04:05", value, zone)
			case "Commandline":
				c.Comm = program(value)
			case "Requested-By":
				// By apt's own look at what sudo and polkit left in its environment.
				c.LoginUser, _, _ = strings.Cut(value, " (")
				c.LoginUser = tame(c.LoginUser)
			case "Install", "Reinstall", "Upgrade", "Downgrade", "Remove", "Purge":
				if inAptList(value, name) {
					names, c.What = true, packageWord(strings.ToLower(key))
				}
			}
		}
		if c.LoginUser != "" {
			c.User, c.Via = "root", "sudo"
		}
		if names && !c.When.IsZero() {
			last = c
		}
	}
	return last
}

// inAptList looks for a package in "a:amd64 (1.0), b:amd64 (1.0, automatic)".
func inAptList(list, name string) bool {
	for item := range strings.SplitSeq(list, "), ") {
		found, _, _ := strings.Cut(item, " (")
		found, _, _ = strings.Cut(found, ":")
		if found == name {
			return true
		}
	}
	return false
}

// readDpkg reads dpkg's log: "2026-11-28 01:02:03 remove tree:amd64 2.1.0-1 <none>".
func readDpkg(log []byte, name string, zone *time.Location) *Culprit {
	return lastLine(log, func(line string) *Culprit {
		words := strings.Fields(line)
		if len(words) < 4 {
			return nil
		}
		what, pkg := packageWord(words[2]), words[3]
		pkg, _, _ = strings.Cut(pkg, ":")
		if what == "" || pkg != name {
			return nil
		}
		return logged("2006-01-02 15:04:05", words[0]+" "+words[1], zone, "dpkg", what)
	})
}

// readDnf reads what dnf writes of rpm's work:
// "2026-11-28T01:02:03+0000 SUBDEBUG Erase: tiny-1.0-1.noarch".
func readDnf(log []byte, name string, zone *time.Location) *Culprit {
	return lastLine(log, func(line string) *Culprit {
		words := strings.Fields(line)
		if len(words) != 4 {
			return nil
		}
		what := packageWord(strings.ToLower(strings.TrimSuffix(words[2], ":")))
		if parts := strings.Split(words[3], "-"); what == "" || len(parts) < 3 || strings.Join(parts[:len(parts)-2], "-") != name {
			return nil
		}
		return logged("2006-01-02T15:04:05-0700", words[0], zone, "dnf", what)
	})
}

// readZypper reads libzypp's history:
// "2026-11-28 01:02:03|remove |tiny|1.0-1|noarch|root@web-1|".
func readZypper(log []byte, name string, zone *time.Location) *Culprit {
	return lastLine(log, func(line string) *Culprit {
		fields := strings.Split(line, "|")
		if len(fields) < 6 || fields[2] != name {
			return nil
		}
		what := packageWord(strings.TrimSpace(fields[1]))
		if what == "" {
			return nil
		}
		c := logged("2006-01-02 15:04:05", fields[0], zone, "zypper", what)
		if user, _, ok := strings.Cut(fields[5], "@"); c != nil && ok {
			c.User = tame(user)
		}
		return c
	})
}

// readPacman reads pacman's log:
// "[2026-11-28T01:02:03+0000] [ALPM] removed tiny (1.0-1)".
func readPacman(log []byte, name string, zone *time.Location) *Culprit {
	return lastLine(log, func(line string) *Culprit {
		words := strings.Fields(line)
		if len(words) < 4 || words[1] != "[ALPM]" || words[3] != name || packageWord(words[2]) == "" {
			return nil
		}
		return logged("[2006-01-02T15:04:05-0700]", words[0], zone, "pacman", packageWord(words[2]))
	})
}

// lastLine returns what is made of the last line that anything is made of.
func lastLine(log []byte, read func(line string) *Culprit) *Culprit {
	for len(log) > 0 {
		at := bytes.LastIndexByte(log, '\n')
		if c := read(string(log[at+1:])); c != nil {
			return c
		}
		log = log[:max(at, 0)]
	}
	return nil
}

// logged makes a culprit of a log's words; nil when the time is none.
func logged(layout, at string, zone *time.Location, comm, what string) *Culprit {
	when, err := time.ParseInLocation(layout, at, zone)
	if err != nil || when.IsZero() {
		return nil
	}
	return &Culprit{Comm: comm, What: what, When: when}
}

// packageWord says what the word of a log stands for, as something that was
// done; empty for one that changes no package.
func packageWord(word string) string {
	switch word {
	case "install", "installed", "reinstall", "reinstalled":
		return "installed"
	case "upgrade", "upgraded":
		return "upgraded"
	case "downgrade", "downgraded":
		return "downgraded"
	case "remove", "removed", "erase":
		return "removed"
	case "purge":
		return "purged"
	}
	return ""
}

// program is the first word of a command line, without its directories: what
// follows may be a secret.
func program(commandLine string) string {
	words := strings.Fields(commandLine)
	if len(words) == 0 {
		return ""
	}
	return tame(path.Base(words[0]))
}

// accountFiles are the files that an account is kept in.
func accountFiles(space string) []string {
	switch space {
	case resource.SpaceUser:
		return []string{"/etc/passwd", "/etc/shadow"}
	case resource.SpaceGroup, resource.SpaceMember:
		return []string{"/etc/group", "/etc/gshadow"}
	}
	return nil
}

// paths are the files whose change may be one of what is claimed.
func paths(c resource.Claim) []string {
	if c.Space == resource.SpacePath {
		return []string{c.Name}
	}
	return accountFiles(c.Space)
}

// distinct sorts names and leaves out repeats.
func distinct(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
