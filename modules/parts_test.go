package modules_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
	"trued.dev/trued/modules/block"
	"trued.dev/trued/modules/cron"
	"trued.dev/trued/modules/group"
	"trued.dev/trued/modules/ini"
	"trued.dev/trued/modules/key"
	"trued.dev/trued/modules/line"
	"trued.dev/trued/modules/mount"
	"trued.dev/trued/modules/user"
)

// A part is a resource that shares a file with others.
type part struct {
	module   func(*host.Host) resource.Module
	resource func(resource.Module) resource.Resource
}

// of makes a part of a resource's own type.
func of[R any](module func(*host.Host) resource.Module, fill func(*R)) part {
	return part{module, func(m resource.Module) resource.Resource {
		r := m.New()
		fill(any(r).(*R))
		return r
	}}
}

func lineOf(fill line.Resource) part {
	return of(line.New, func(r *line.Resource) {
		r.Title, r.Path, r.Text, r.Match, r.After, r.Before, r.State = fill.Title, "/etc/x", fill.Text, fill.Match, fill.After, fill.Before, fill.State
	})
}

func blockOf(title, content string, top bool) part {
	return of(block.New, func(r *block.Resource) {
		r.Title, r.Path, r.Content, r.Top = title, "/etc/x", &content, top
	})
}

func iniOf(section, key, value string) part {
	return of(ini.New, func(r *ini.Resource) {
		r.Title, r.Path, r.Section, r.Key, r.Value = section+" "+key, "/etc/x", section, key, &value
	})
}

const (
	blobA = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB5wQl8VbC9zD5x7dMoT4mEdpBqgmhmM4X7TttD4jhCo"
	blobB = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIotVzzXXGWZZ5Bk6XoRk1C8lbVvyg9jJBxp0zMVKQ7H"
	blobC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE1wCGmYEn7TVUXDfOKlcTXNIRCO4W0oOt9Wld6eQMmX"
)

func keyOf(title, blob, options string) part {
	return of(key.New, func(r *key.Resource) {
		r.Title, r.User, r.Key, r.Options = title, "deploy", blob, options
	})
}

func mountOf(target, options string) part {
	return of(mount.New, func(r *mount.Resource) {
		r.Target, r.Device, r.FSType, r.Options = target, "tmpfs", "tmpfs", options
	})
}

func cronOf(name, schedule string) part {
	return of(cron.New, func(r *cron.Resource) {
		r.Title, r.User, r.Schedule, r.Line, r.Crontab = name, "deploy", schedule, "/usr/bin/true", true
	})
}

func userOf(name string, fill func(*user.Resource)) part {
	return of(user.New, func(r *user.Resource) {
		r.User = name
		fill(r)
	})
}

func groupOf(name string, members ...string) part {
	return of(group.New, func(r *group.Resource) { r.Group, r.Members = name, members })
}

// parties are sets of parts that share what is on a machine.
var parties = map[string][]part{
	"a file of lines": {
		lineOf(line.Resource{Title: "replaced", Text: "PermitRootLogin no", Match: "^#?PermitRootLogin"}),
		lineOf(line.Resource{Title: "last of all"}),
		lineOf(line.Resource{Title: "placed", Text: "UseDNS no", After: "^# Ours"}),
		lineOf(line.Resource{Title: "first of one", Text: "Port 22", Before: "^#?PermitRootLogin"}),
		lineOf(line.Resource{Title: "unwanted line", State: "absent"}),
		lineOf(line.Resource{Title: "last", Text: "last"}),
		blockOf("below", "a\nb\n", false),
		blockOf("above", "c\n", true),
	},
	"a file of keys": {
		iniOf("net", "port", "1"),
		iniOf("net", "host", "here"),
		iniOf("new", "key", "value"),
		iniOf("new", "other", "value"),
		iniOf("", "global", "x"),
		lineOf(line.Resource{Title: "# a line of another kind", After: "^# Ours"}),
	},
	"keys of a user": {
		keyOf("one", blobA, ""),
		keyOf("two", blobB, "restrict"),
		keyOf("three", blobC, "no-pty"),
	},
	"fstab":     {mountOf("/srv/a", "noauto"), mountOf("/srv/b", "size=1m"), mountOf("/srv/there", "nodev")},
	"a crontab": {cronOf("one", "@daily"), cronOf("two", "1 2 * * *"), cronOf("three", "@reboot")},
	"accounts": {
		userOf("deploy", func(r *user.Resource) { r.Comment, r.Shell = new("Deployments"), "/bin/bash" }),
		userOf("fresh", func(r *user.Resource) { r.Groups, r.RemoveHome = []string{"www", "adm"}, true }),
		userOf("old", func(r *user.Resource) { r.Groups, r.Append = []string{"www"}, true }),
		userOf("third", func(r *user.Resource) { r.System = true }),
		groupOf("staff", "deploy"),
		groupOf("made", "old"),
	},
}

// machine is a tree that people have written to: not every file ends as a program
// would end it.
func machine(t *testing.T) (h *host.Host, root string) {
	t.Helper()
	root = filepath.Join(t.TempDir(), "root")
	for name, text := range map[string]string{
		"etc/x":       "# Ours.\n#PermitRootLogin yes\nunwanted line\n[net]\nport=0\n; a remark\nlast",
		"etc/fstab":   "# people's\nUUID=x / ext4 errors=remount-ro 0 1\ntmpfs\t/srv/there  tmpfs noauto 0 0",
		"etc/passwd":  "root:x:0:0:root:/root:/bin/bash\nold:x:1000:1000:Old:/home/old:/bin/sh\ndeploy:x:1001:1001::/home/deploy:/bin/sh\n",
		"etc/group":   "root:x:0:\nold:x:1000:\ndeploy:x:1001:\nadm:x:4:old\nwww:x:33:\nstaff:x:50:old\n",
		"etc/shadow":  "root:*:19000:0:99999:7:::\nold:!:19000:0:99999:7:::\ndeploy:!:19000:0:99999:7:::\n",
		"etc/gshadow": "root:*::\nold:!::\ndeploy:!::\nadm:*::old\nwww:*::\nstaff:*::old\n",

		"home/deploy/.ssh/authorized_keys": "# people's\n" + blobB + " theirs",
		"home/old/.profile":                "",
		"var/spool/cron/crontabs/deploy":   "# people's\n5 * * * * /usr/bin/theirs\n",
		"var/mail/.keep":                   "",
		"usr/sbin/cron":                    "",
		"proc/.keep":                       "",
		"srv/there/.keep":                  "",
	} {
		name = filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(os.Chown(filepath.Join(root, "home/old"), 1000, 1000), os.Mkdir(filepath.Join(root, "srv/a"), 0o755), os.Mkdir(filepath.Join(root, "srv/b"), 0o755))
	for _, name := range []string{"", ".ssh", ".ssh/authorized_keys"} {
		err = errors.Join(err, os.Chown(filepath.Join(root, "home/deploy", name), 1001, 1001))
	}
	if err := errors.Join(err, os.Chown(filepath.Join(root, "var/spool/cron/crontabs/deploy"), 1001, 0)); err != nil {
		t.Fatal(err)
	}
	return host.New(root, host.Options{Backups: host.OpenBackups(t.TempDir())}), root
}

// TestPartsComeAndGo has resources that share a file come in any order and leave,
// some before others come: whoever is left stays in order. Where those that came
// last leave first, as when all are pruned at once, all is as it was in the end.
// Elsewhere that holds for the text, but for the newline of its last line: who ended
// it for others to follow has left, and those do not know.
func TestPartsComeAndGo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: files of users belong to them")
	}
	for name, party := range parties {
		for seed := range uint64(5) {
			t.Run(fmt.Sprintf("%s, the last first, %d", name, seed), func(t *testing.T) {
				comeAndGo(t, party, rand.New(rand.NewPCG(seed, 0)), true)
			})
			t.Run(fmt.Sprintf("%s, in any order, %d", name, seed), func(t *testing.T) {
				comeAndGo(t, party, rand.New(rand.NewPCG(seed, 1)), false)
			})
		}
	}
}

func comeAndGo(t *testing.T, party []part, random *rand.Rand, lastFirst bool) {
	h, root := machine(t)
	before := lasting(t, root, lastFirst)
	var there []int
	e := &resourcetest.Engine{Offline: true}
	filled := func(i int) (resource.Module, resource.Resource) {
		m := party[i].module(h)
		r := party[i].resource(m)
		if err := errors.Join(e.Load(r), r.Validate()); err != nil {
			t.Fatal(err)
		}
		return m, r
	}
	e.Owner = func(c resource.Claim) (resource.Address, bool) {
		for _, i := range there {
			if m, r := filled(i); slices.ContainsFunc(r.Claims(), c.Clashes) {
				return resource.AddressOf(m, r), true
			}
		}
		return resource.Address{}, false
	}
	var story []string
	waiting := random.Perm(len(party))
	for len(waiting) > 0 || len(there) > 0 {
		if len(waiting) > 0 && (len(there) == 0 || random.IntN(3) > 0) {
			m, r := filled(waiting[0])
			there, waiting = append(there, waiting[0]), waiting[1:]
			story = append(story, "+"+resource.AddressOf(m, r).String())
			if err := e.Converge(t.Context(), m, r); err != nil {
				t.Fatalf("%v: %v", story, err)
			}
		} else {
			at := len(there) - 1
			if !lastFirst {
				at = random.IntN(len(there))
			}
			m, r := filled(there[at])
			there = slices.Delete(there, at, at+1)
			story = append(story, "-"+resource.AddressOf(m, r).String())
			left, err := e.Absent(m, r)
			if err == nil {
				err = e.Leave(t.Context(), m, r, left)
			}
			if err != nil {
				t.Fatalf("%v: %v", story, err)
			}
		}
		for _, i := range there {
			m, r := filled(i)
			if found, err := e.Check(t.Context(), m, r); err != nil || !found.InOrder() {
				t.Fatalf("%v: %s is not in order: %+v, error %v", story, resource.AddressOf(m, r), found.Diff, err)
			}
		}
	}
	after := lasting(t, root, lastFirst)
	for _, was := range before {
		if !slices.Contains(after, was) {
			t.Errorf("%v: was there and is not now: %s", story, was)
		}
	}
	for _, is := range after {
		if !slices.Contains(before, is) {
			t.Errorf("%v: is there and was not before: %s", story, is)
		}
	}
}

// lasting is what is on the machine: all of it, but for what the programs that
// change accounts leave behind, or the texts without their last newline.
func lasting(t *testing.T, root string, all bool) []string {
	t.Helper()
	var lines []string
	if all {
		lines = slices.DeleteFunc(resourcetest.Fingerprint(t, root, false), func(line string) bool {
			name, _, _ := strings.Cut(line, " ")
			return strings.HasSuffix(name, "/.pwd.lock") || strings.HasPrefix(name, root+"/etc/") && strings.HasSuffix(name, "-")
		})
	}
	for _, name := range []string{"etc/x", "etc/fstab", "home/deploy/.ssh/authorized_keys", "var/spool/cron/crontabs/deploy", "etc/passwd", "etc/group"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		lines = append(lines, fmt.Sprintf("%s: %q, error %v", name, strings.TrimSuffix(string(text), "\n"), err))
	}
	return lines
}
