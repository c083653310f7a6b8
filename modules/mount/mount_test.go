package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

func ptr[T any](v T) *T { return &v }

func filled(m resource.Module, fill Resource) *Resource {
	r := m.New().(*Resource)
	fill.machine = r.machine
	*r = fill
	return r
}

const missing = "\x00missing"

func tree(t *testing.T, had string) (*host.Host, string) {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if had != missing {
		if err := os.WriteFile(filepath.Join(root, fstab), []byte(had), 0o664); err != nil {
			t.Fatal(err)
		}
	}
	return host.New(root, host.Options{Backups: host.OpenBackups(t.TempDir())}), root
}

// stories are what becomes of fstab.
var stories = map[string]struct {
	had  string
	fill Resource
	want string
}{
	"a new entry": {"# of the installer\n/dev/sda1 / ext4 errors=remount-ro 0 1\n",
		Resource{Target: "/srv/data/", Device: "UUID=a-b", FSType: "xfs", Options: "noatime,nofail", Pass: ptr(2)},
		"# of the installer\n/dev/sda1 / ext4 errors=remount-ro 0 1\nUUID=a-b /srv/data xfs noatime,nofail 0 2\n"},
	"no fstab": {missing, Resource{Target: "/srv", Device: "tmpfs", FSType: "tmpfs"}, "tmpfs /srv tmpfs defaults 0 0\n"},
	"no final newline": {"# x", Resource{Target: "/srv", Device: "tmpfs", FSType: "tmpfs"},
		"# x\ntmpfs /srv tmpfs defaults 0 0\n"},
	"in its place, and what is not given stays": {"/dev/sdb1\t/srv/\text3\tnoatime  1 2\n#end\n",
		Resource{Target: "/srv", Device: "/dev/sdc1", FSType: "ext4"}, "/dev/sdc1 /srv/ ext4 noatime 1 2\n#end\n"},
	"other options": {"a\n/dev/sdb1 /srv ext4 noatime 0 2 # why\nb\n",
		Resource{Target: "/srv", Device: "/dev/sdb1", FSType: "ext4", Options: "nofail"}, "a\n/dev/sdb1 /srv ext4 nofail 0 2\nb\n"},
	"of three fields": {"tmpfs /srv tmpfs\n", Resource{Target: "/srv", Device: "tmpfs", FSType: "tmpfs", Options: "size=1m"},
		"tmpfs /srv tmpfs size=1m 0 0\n"},
	"spaces": {"", Resource{Target: "/srv/my data", Device: `//server/my\share`, FSType: "cifs", Options: "nofail,credentials=/etc/a b"},
		`//server/my\134share /srv/my\040data cifs nofail,credentials=/etc/a\040b 0 0` + "\n"},
	"an entry with spaces": {`/dev/sdb1 /srv/my\040data ext4 ro 0 0` + "\n",
		Resource{Target: "/srv/my data", Device: "/dev/sdb1", FSType: "ext4", Options: "rw"}, `/dev/sdb1 /srv/my\040data ext4 rw 0 0` + "\n"},
	"absent": {"a\n/dev/sdb1 /srv ext4 ro 0 0\nb", Resource{Target: "/srv", State: "absent"}, "a\nb"},
	"absent, of two": {"/dev/sdb1 /srv ext4 ro 0 0\nb\n/dev/sdc1 /srv ext4 ro 0 0\n",
		Resource{Target: "/srv", State: "absent"}, "b\n"},
	"swap": {"/dev/sdb1 none swap sw 0 0\n", Resource{Target: "/swapfile", FSType: swap, Options: "nofail"},
		"/dev/sdb1 none swap sw 0 0\n/swapfile none swap nofail 0 0\n"},
	"swap in its place": {"/dev/sdb1 swap swap sw 0 0\n", Resource{Target: "/dev/sdb1", FSType: swap, Options: "pri=5"},
		"/dev/sdb1 swap swap pri=5 0 0\n"},
	"no more swap": {"/dev/sdb1 none swap sw 0 0\n# x\n", Resource{Target: "/dev/sdb1", FSType: swap, State: "absent"}, "# x\n"},
	"not mounted, and in fstab": {"", Resource{Target: "/srv", Device: "/dev/sdb1", FSType: "ext4", Options: "noauto", State: "unmounted"},
		"/dev/sdb1 /srv ext4 noauto 0 0\n"},
}

func TestMountInATreeKeepsThePromisesOfAModule(t *testing.T) {
	for name, s := range stories {
		t.Run(name, func(t *testing.T) {
			h, root := tree(t, s.had)
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource { return filled(m, s.fill) },
				Dirs:     []string{root}, Offline: true,
			})
		})
	}
}

func TestEntriesArePutWhereTheyBelong(t *testing.T) {
	for name, s := range stories {
		t.Run(name, func(t *testing.T) {
			h, root := tree(t, s.had)
			m := New(h)
			r := filled(m, s.fill)
			e := &resourcetest.Engine{Offline: true}
			if err := errors.Join(e.Load(r), e.Converge(t.Context(), m, r)); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(root, fstab)); err != nil || string(got) != s.want {
				t.Errorf("fstab is\n%q, want\n%q, error %v", got, s.want, err)
			}
		})
	}
}

func TestAnEntryThatIsAsItShouldBeKeepsItsSpaces(t *testing.T) {
	h, _ := tree(t, "UUID=a\t/srv\t\text4    defaults\n")
	m := New(h)
	r := filled(m, Resource{Target: "/srv", Device: "UUID=a", FSType: "ext4", Options: "defaults", Pass: ptr(0)})
	if found, err := (&resourcetest.Engine{Offline: true}).Check(t.Context(), m, r); err != nil || len(found.Diff) > 0 {
		t.Errorf("found %+v, %v", found, err)
	}
}

func TestTwoEntriesForOneDirectoryAreRefused(t *testing.T) {
	h, _ := tree(t, "/dev/sdb1 /srv ext4 ro 0 0\n/dev/sdc1 /srv ext4 ro 0 0\n")
	m := New(h)
	r := filled(m, Resource{Target: "/srv", Device: "/dev/sdb1", FSType: "ext4"})
	if _, err := (&resourcetest.Engine{Offline: true}).Check(t.Context(), m, r); err == nil || !strings.Contains(err.Error(), "2 lines are for") {
		t.Errorf("Check says %v", err)
	}
}

func TestABootThatCouldHangIsToldOf(t *testing.T) {
	for name, c := range map[string]struct {
		fill Resource
		want string
	}{
		"a disk":          {Resource{Target: "/srv", Device: "UUID=a", FSType: "ext4"}, "emergency shell"},
		"a disk, nofail":  {Resource{Target: "/srv", Device: "UUID=a", FSType: "ext4", Options: "noatime,nofail"}, ""},
		"a disk, noauto":  {Resource{Target: "/srv", Device: "/dev/sdb", FSType: "ext4", Options: "noauto"}, ""},
		"the root":        {Resource{Target: "/", Device: "UUID=a", FSType: "ext4"}, ""},
		"the network":     {Resource{Target: "/srv", Device: "nas:/x", FSType: "nfs"}, "cannot be reached"},
		"memory":          {Resource{Target: "/srv", Device: "tmpfs", FSType: "tmpfs"}, ""},
		"a bind mount":    {Resource{Target: "/srv", Device: "/var/www", FSType: "none", Options: "bind"}, ""},
		"what is removed": {Resource{Target: "/srv", State: "absent"}, ""},
	} {
		h, _ := tree(t, "")
		m := New(h)
		r := filled(m, c.fill)
		found, err := (&resourcetest.Engine{Offline: true}).Check(t.Context(), m, r)
		if err != nil || (found.Note == "") != (c.want == "") || !strings.Contains(found.Note, c.want) {
			t.Errorf("%s: the note is %q, error %v", name, found.Note, err)
		}
	}
}

func TestAMountComesAfterWhatItIsOn(t *testing.T) {
	r := Resource{Target: "/srv/data/www", Device: "/srv/other/x", FSType: "none", Options: "bind"}
	for _, c := range []resource.Claim{
		resource.Path("/srv/data/www"), resource.Path("/srv/data"), resource.Path("/srv/other/x"),
	} {
		if !slices.Contains(r.Needs(), resource.Need{Claim: c}) {
			t.Errorf("the mount does not come after %s", c)
		}
	}
}

func TestOptionsAreComparedByWhatTheyMean(t *testing.T) {
	for _, c := range []struct{ options, is, should string }{
		{"defaults", "rw,relatime", ""},
		{"ro", "rw,relatime", "ro"},
		{"nosuid,nodev", "rw,nosuid,relatime", "nodev"},
		{"nodev,dev", "rw,relatime", ""},
		{"noatime", "rw,relatime", "noatime"},
		{"users", "rw,nosuid,nodev,noexec", ""},
		{"users,exec", "rw,nosuid,nodev,noexec", "exec"},
		{"size=1m", "ro", "rw"},
		{"", "ro,nosuid", ""},
	} {
		r := Resource{Target: "/srv", Options: c.options}
		if _, should := r.offFlags(mountedWith(c.is)); strings.Join(should, ",") != c.should {
			t.Errorf("%q where %q is: it should become %q, want %q", c.options, c.is, should, c.should)
		}
	}
}

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "a b", `\040`, "#x", "ü\t\n\xff", `a\`, "\u00a0", "\u3000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e := entry{"d" + s, "/t" + s, "ext4", "o" + s, "0", "0"}
		if s != "" {
			e.device = s
		}
		back, ok := parseEntry(e.String())
		if !ok || back != e {
			t.Errorf("%q became %q, %v", e, back, ok)
		}
	})
}

func TestWrongValuesAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Resource)
		want   string
	}{
		"a relative path":      {func(r *Resource) { r.Target = "srv" }, "mount: "},
		"no device":            {func(r *Resource) { r.Device = "" }, "device: is missing"},
		"no type":              {func(r *Resource) { r.FSType = "" }, "fstype: is missing"},
		"a type with a space":  {func(r *Resource) { r.FSType = "ext 4" }, "fstype: "},
		"options with a space": {func(r *Resource) { r.Options = "ro, nofail" }, "options: "},
		"an empty option":      {func(r *Resource) { r.Options = "ro,,nofail" }, "options: "},
		"a remount":            {func(r *Resource) { r.Options = "remount,ro" }, "options: remount"},
		"a bind of a tag":      {func(r *Resource) { r.Options = "bind" }, "device: "},
		"a pass of words":      {func(r *Resource) { r.Pass = ptr(-1) }, "pass: "},
		"an unknown state":     {func(r *Resource) { r.State = "gone" }, "state: "},
		"an absent device":     {func(r *Resource) { r.State = "absent" }, "state: "},
		"the root":             {func(r *Resource) { *r = Resource{Target: "/", State: "unmounted"} }, "state: the host runs from /"},
		"a newline":            {func(r *Resource) { r.Device = "/dev/a\nb" }, "device: "},
		"swap to a directory":  {func(r *Resource) { *r = Resource{Target: "swap", FSType: swap} }, "mount: "},
		"swap with a device":   {func(r *Resource) { *r = Resource{Target: "/swap", Device: "/dev/sdb1", FSType: swap} }, "device: "},
		"a secret":             {func(r *Resource) { r.Sensitive = true }, "sensitive: every user can read fstab"},
	} {
		r := &Resource{Target: "/srv", Device: "UUID=a", FSType: "ext4"}
		c.change(r)
		if err := r.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Validate says %v, want %q", name, err, c.want)
		}
	}
}

func mountedWith(options string) live {
	return live{Mounted: true, info: &mountinfo.Info{Options: options}}
}

// kernel makes a list of what is mounted of lines that begin with the mount point.
func kernel(t *testing.T, m resource.Module, lines ...string) {
	t.Helper()
	proc := t.TempDir()
	var list strings.Builder
	for i, line := range lines {
		fmt.Fprintf(&list, "%d 1 0:%d / %s\n", 20+i, 30+i, line)
	}
	err := errors.Join(os.Mkdir(filepath.Join(proc, "self"), 0o755),
		os.WriteFile(filepath.Join(proc, "self/mountinfo"), []byte(list.String()), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	m.(module).proc = proc
}

func TestWhatTheKernelTellsIsCompared(t *testing.T) {
	nfs := Resource{Target: "/srv/my data", Device: "nas:/export/", FSType: "nfs", Options: "nofail,ro"}
	for name, c := range map[string]struct {
		fill  Resource
		lines []string
		want  string // a field of the difference, or a part of the error
	}{
		"as it is to be":          {nfs, []string{`/srv/my\040data ro,relatime - nfs4 nas:/export ro`}, ""},
		"not mounted":             {nfs, []string{`/srv ro - ext4 /dev/sda1 ro`}, "there is no directory"},
		"another on top":          {nfs, []string{`/srv/my\040data ro - nfs4 nas:/export ro`, `/srv/my\040data rw - tmpfs x rw`}, "device"},
		"another server":          {nfs, []string{`/srv/my\040data ro - nfs4 old:/export ro`}, "device"},
		"to be written to":        {nfs, []string{`/srv/my\040data rw - nfs4 nas:/export rw`}, "options"},
		"of another type":         {nfs, []string{`/srv/my\040data ro - cifs nas:/export ro`}, "is of type cifs, and the manifest says nfs"},
		"mounted at first use":    {nfs, []string{`/srv/my\040data rw - autofs systemd-1 rw`}, ""},
		"a share":                 {Resource{Target: "/srv", Device: "//nas/x", FSType: "cifs"}, []string{`/srv rw - cifs //nas/x rw`}, ""},
		"of a type that has many": {Resource{Target: "/srv", Device: "me@nas:", FSType: "fuse.sshfs"}, []string{`/srv rw - fuse.sshfs me@nas: rw`}, ""},
		"not to be mounted":       {Resource{Target: "/srv", State: "unmounted"}, []string{`/srv rw - cifs //nas/x rw`}, "state"},
		"not mounted, rightly":    {Resource{Target: "/srv", State: "absent"}, []string{`/srv/x rw - cifs //nas/x rw`}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.fill
			had := ""
			if r.Device != "" {
				had = r.wanted(nil).String()
			}
			h, _ := tree(t, had+"\n")
			m := New(h)
			kernel(t, m, c.lines...)
			found, err := (&resourcetest.Engine{}).Check(t.Context(), m, filled(m, c.fill))
			switch {
			case c.want == "" && (err != nil || len(found.Diff) > 0):
				t.Errorf("found %+v, %v", found, err)
			case c.want != "" && err == nil && !found.Diff.Has(c.want), err != nil && (c.want == "" || !strings.Contains(err.Error(), c.want)):
				t.Errorf("found %+v, %v; want %s", found, err, c.want)
			}
		})
	}
}

func TestTheUnitOfSystemdIsWatched(t *testing.T) {
	for name, c := range map[string]struct {
		fill Resource
		want string
	}{
		"a directory": {Resource{Target: "/srv/my-data"}, `srv-my\x2ddata.mount`},
		"the root":    {Resource{Target: "/"}, "-.mount"},
		"swap":        {Resource{Target: "/dev/sdb1", FSType: swap}, "dev-sdb1.swap"},
		"swap by tag": {Resource{Target: "UUID=a-b", FSType: swap}, `dev-disk-by\x2duuid-a\x2db.swap`},
	} {
		if !slices.ContainsFunc(c.fill.Watches(), func(w resource.Watch) bool { return w.Space == resource.WatchUnit && w.Name == c.want }) {
			t.Errorf("%s: what is watched is %v, want %s", name, c.fill.Watches(), c.want)
		}
	}
}
