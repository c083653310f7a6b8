package cron

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

// goodSchedules are right, for us and for cron.
var goodSchedules = []string{
	"* * * * *", "0 2 * * *", "*/5 * * * *", "30 2 * * 1-5", "0,15,30,45 8-18/2 1,15 * 0", "5 4 * * sun",
	"0 0 1 jan *", "0 0 31 12 7", "0 0 * * mon-fri", "0 0 * jan,jul Sat", "10-20/5,40 0 * * *",
	"@reboot", "@daily", "@hourly", "@weekly", "@monthly", "@yearly", "@annually", "@midnight",
}

// badSchedules are wrong, for us and for cron.
var badSchedules = map[string]string{
	"":             "has 0 fields, not five",
	"0 2 * *":      "has 4 fields, not five",
	"60 * * * *":   `"60" is not a minute: it goes from 0 to 59`,
	"* 24 * * *":   `"24" is not a hour`,
	"* * 0 * *":    "is not a day of the month",
	"* * 32 * *":   "is not a day of the month",
	"* * * 13 *":   "from 1 to 12, jan to dec",
	"* * * * 8":    "from 0 to 7, sun to sat",
	"* * * * fry":  `"fry" is not a day of the week`,
	"a * * * *":    "is not a minute",
	"1, * * * *":   `"" is not a minute`,
	"*/0 * * * *":  "is not a step",
	"*/x * * * *":  "is not a step",
	"-5 * * * *":   `"" is not a minute`,
	"@fortnightly": "is none of @reboot",
	"@Daily":       "is none of",
}

func TestSchedulesOfCronAreTaken(t *testing.T) {
	for _, s := range goodSchedules {
		if p := scheduleProblem(s); p != "" {
			t.Errorf("%q: %s", s, p)
		}
	}
}

func TestWhatIsNoScheduleIsRefused(t *testing.T) {
	for s, want := range badSchedules {
		if p := scheduleProblem(s); p == "" || !strings.Contains(p, want) {
			t.Errorf("%q: %q, want it to say %q", s, p, want)
		}
	}
	// Some crons take these, and others do not.
	for s, want := range map[string]string{
		"30-10 * * * *": "write 30-59,0-10", "* * * * fri-sun": "write fri-6,0-sun", "5/10 * * * *": "write 5-59/10", "0 2 * * * *": "has 6 fields", "* * * *\n*": "more than one line",
	} {
		if p := scheduleProblem(s); !strings.Contains(p, want) {
			t.Errorf("%q: %q, want it to say %q", s, p, want)
		}
	}
}

func FuzzSchedule(f *testing.F) {
	for _, s := range goodSchedules {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if scheduleProblem(s) == "" && strings.ContainsAny(s, "%\x00\n\r#=") {
			t.Errorf("%q is taken", s)
		}
	})
}

func filled(m resource.Module, fill Resource) *Resource {
	r := m.New().(*Resource)
	fill.host = r.host
	*r = fill
	return r
}

func tree(t *testing.T, had string) (*host.Host, string) {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/sh\napp:x:34:34::/:/bin/sh\n", "etc/group": "root:x:0:\n",
		"etc/cron.d/job": had, "usr/sbin/cron": "",
	} {
		if text == "" && strings.HasPrefix(name, "etc") {
			continue
		}
		at := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	return host.New(root, host.Options{Backups: host.OpenBackups(t.TempDir())}), root
}

func TestCronKeepsThePromisesOfAModule(t *testing.T) {
	for name, c := range map[string]struct {
		had    string
		fill   Resource
		secret string
	}{
		"a new entry":      {fill: Resource{Schedule: "@daily", Line: "true"}},
		"in place of one":  {had: "* * * * * root false\n", fill: Resource{Schedule: "0 2 * * *", Line: "true\n", User: "app", Env: map[string]string{"A": "b"}}},
		"absent":           {had: "* * * * * root false\n", fill: Resource{State: "absent"}},
		"a sensitive line": {fill: Resource{Schedule: "@daily", Line: "login s3cr3t"}, secret: "s3cr3t"},
	} {
		t.Run(name, func(t *testing.T) {
			h, root := tree(t, c.had)
			c.fill.Title = "job"
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource { return filled(m, c.fill) },
				Dirs:     []string{root}, Offline: true, Secret: c.secret,
			})
		})
	}
}

// The tree's file is one that others may not read.
func TestAnEntryThatOthersMayNotReadIsTakenOverUnseen(t *testing.T) {
	h, root := tree(t, "* * * * * root login s3cr3t\n")
	m, e := New(h), &resourcetest.Engine{Offline: true}
	r := filled(m, Resource{Title: "job", Schedule: "@daily", Line: "true"})
	found, err := e.Check(t.Context(), m, r)
	if err != nil || !found.Diff.Has(host.FieldContent) || strings.Contains(fmt.Sprint(found.Diff), "s3cr3t") {
		t.Errorf("found %+v, error %v", found.Diff, err)
	}
	view := e.View(m, r)
	view.Prior = found.Prior
	if again, err := r.Check(t.Context(), view); err != nil || !slices.Equal(again.Diff, found.Diff) {
		t.Errorf("once it was tried, found %+v, error %v", again.Diff, err)
	}
	if err := e.Converge(t.Context(), m, r); err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(root, "etc/cron.d/job")
	if err := errors.Join(os.WriteFile(at, []byte("drifted\n"), 0o640), os.Chmod(at, 0o640)); err != nil {
		t.Fatal(err)
	}
	if found, err = e.Check(t.Context(), m, r); err != nil || !strings.Contains(fmt.Sprint(found.Diff), "drifted") {
		t.Errorf("of its own found %+v, error %v", found.Diff, err)
	}
}

func TestTheTextSaysWhatTheManifestSays(t *testing.T) {
	r := Resource{
		Title: "job", Schedule: "30  2 * * mon-fri", Line: "report --day \"$(date +%F)\" 100%\n", User: "app",
		Env: map[string]string{"PATH": "/usr/bin:/bin", "MAILTO": "", "A": " x", "B": `say "hi"`, "C": "it's"},
	}
	want := `# Kept by trued: cron:job
A=" x"
B='say "hi"'
C=it's
MAILTO=""
PATH=/usr/bin:/bin
30 2 * * mon-fri app report --day "$(date +\%F)" 100\%
`
	if err := r.Validate(); err != nil {
		t.Error(err)
	}
	if got := r.text(); got != want {
		t.Errorf("the file is\n%s", got)
	}
}

func TestAnEntryIsRootsAndOfItsMode(t *testing.T) {
	h, root := tree(t, "* * * * * root false\n")
	m := New(h)
	r := filled(m, Resource{Title: "job", Schedule: "@daily", Line: "true"})
	e := &resourcetest.Engine{Offline: true}
	if err := e.Converge(t.Context(), m, r); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(root, "etc/cron.d/job")); err != nil || info.Mode() != 0o644 {
		t.Errorf("the file is %v, error %v", info, err)
	}
}

func TestAnEntryWaitsForItsUser(t *testing.T) {
	h, _ := tree(t, "")
	m := New(h)
	r := filled(m, Resource{Title: "job", Schedule: "@daily", Line: "/usr/bin/job --all", User: "ada"})
	for _, c := range []resource.Claim{{Space: resource.SpaceUser, Name: "ada"}, resource.Path("/usr/bin/job"), resource.Path("/etc/cron.d")} {
		if !slices.Contains(r.Needs(), resource.Need{Claim: c}) {
			t.Errorf("the entry does not come after %s", c)
		}
	}
	e := &resourcetest.Engine{Offline: true}
	var unknown *host.UnknownUserError
	if _, err := e.Check(t.Context(), m, r); !errors.As(err, &unknown) {
		t.Errorf("without the user: %v", err)
	}
	e.Owner = func(c resource.Claim) (resource.Address, bool) {
		return resource.Address{Kind: "user", Name: "ada"}, c.Space == resource.SpaceUser && c.Name == "ada"
	}
	if found, err := e.Check(t.Context(), m, r); err != nil || found.Unknown != "user:ada is made" {
		t.Errorf("before the user is made: %+v, %v", found, err)
	}
}

func TestAHostWithoutCronIsTold(t *testing.T) {
	h, root := tree(t, "")
	if err := os.Remove(filepath.Join(root, "usr/sbin/cron")); err != nil {
		t.Fatal(err)
	}
	m := New(h)
	r := filled(m, Resource{Title: "job", Schedule: "@daily", Line: "true"})
	if found, err := (&resourcetest.Engine{Offline: true}).Check(t.Context(), m, r); err != nil || !strings.Contains(found.Note, "no cron") {
		t.Errorf("found %+v, %v", found, err)
	}
}

func TestWrongValuesAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Resource)
		want   string
	}{
		"a dot":               {func(r *Resource) { r.Title = "my.job" }, `cron: "my.job" is not a name that cron reads in /etc/cron.d: it takes letters, digits, '-' and '_', such as "my-job"`},
		"no name":             {func(r *Resource) { r.Title = "" }, "cron: "},
		"a path":              {func(r *Resource) { r.Title = "../x" }, "cron: "},
		"no schedule":         {func(r *Resource) { r.Schedule = "" }, "schedule: "},
		"no command":          {func(r *Resource) { r.Line = " \n" }, "run: is missing"},
		"two lines":           {func(r *Resource) { r.Line = "a\nb" }, "run: has more than one line"},
		"an escaped percent":  {func(r *Resource) { r.Line = `date +\%F` }, `run: has \% in it: write % alone`},
		"a line that is long": {func(r *Resource) { r.Line = strings.Repeat("x", 1000) }, "run: makes a line of more than 998"},
		"not a user":          {func(r *Resource) { r.User = "a b" }, "user: "},
		"a number of a user":  {func(r *Resource) { r.User = "33" }, "user: "},
		"not a variable":      {func(r *Resource) { r.Env = map[string]string{"A B": "x"} }, "env: "},
		"two lines in one":    {func(r *Resource) { r.Env = map[string]string{"A": "x\ny"} }, "env: "},
		"a space at the end":  {func(r *Resource) { r.Env = map[string]string{"A": "x "} }, "env: "},
		"two kinds of quotes": {func(r *Resource) { r.Env = map[string]string{"A": `"it's`} }, "env: "},
		"an unknown state":    {func(r *Resource) { r.State = "gone" }, "state: "},
		"a crontab of nobody": {func(r *Resource) { r.Crontab = true }, "user: is missing: it is whose crontab it is"},
		"a variable of many":  {func(r *Resource) { r.Crontab, r.User, r.Env = true, "app", map[string]string{"A": "x"} }, "env: in a crontab"},
		"an absent one":       {func(r *Resource) { r.State = "absent" }, "state: "},
	} {
		r := &Resource{Title: "job", Schedule: "@daily", Line: "true"}
		c.change(r)
		if err := r.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Validate says %v, want %q", name, err, c.want)
		}
	}
}
