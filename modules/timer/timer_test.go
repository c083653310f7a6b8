package timer

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

// filled returns a timer of a module, as a run loads it.
func filled(m resource.Module, fill Resource) *Resource {
	r := m.New().(*Resource)
	fill.host, fill.timer, fill.service = r.host, r.timer, r.service
	*r = fill
	return r
}

func tree(t *testing.T) *host.Host {
	t.Helper()
	h := host.New(t.TempDir(), host.Options{Backups: host.OpenBackups(t.TempDir())})
	for name, text := range map[string]string{
		"/usr/lib/systemd/system/other.service": "[Service]\nExecStart=/bin/true\n",
		"/etc/systemd/system/old.timer":         "[Timer]\nOnBootSec=1h\n",
		"/etc/passwd":                           "root:x:0:0::/root:/bin/sh\nbackup:x:34:34::/:/bin/sh\n",
	} {
		spec := host.FileSpec{Content: resource.Bytes([]byte(text)), Parents: true}
		if err := h.WriteFile(t.Context(), name, spec); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func TestTimerInATreeKeepsThePromisesOfAModule(t *testing.T) {
	for name, fill := range map[string]Resource{
		"a line":       {Title: "new", OnCalendar: "daily", Line: "echo hello"},
		"a program":    {Title: "new", OnCalendar: "Mon 02:30\nSat 04:00\n", Argv: []string{"/bin/true", "a b"}, User: "backup", Persistent: true},
		"takes a name": {Title: "old", OnCalendar: "daily", Line: "true", RandomDelay: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			h := tree(t)
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource { return filled(m, fill) },
				Dirs:     []string{h.Root()},
				Offline:  true,
			})
		})
	}
}

func TestTheTextsSayWhatTheManifestSays(t *testing.T) {
	r := Resource{
		Title: "job", OnCalendar: " Mon 02:30\n\n*-*-01 04:00 UTC\n", RandomDelay: 90 * time.Second, Persistent: true,
		Argv: []string{"/opt/50% off/run", "a b", `quote " back \ slash`, "$HOME", "", "{}"}, User: "ada", Dir: "/srv/100%",
		Env: map[string]string{"B": "2", "A": "x y"}, Description: "Job of 100%",
	}
	wantTimer := `# Kept by trued: timer:job
[Unit]
Description=Job of 100%%

[Timer]
OnCalendar=Mon 02:30
OnCalendar=*-*-01 04:00 UTC
RandomizedDelaySec=90s
Persistent=true

[Install]
WantedBy=timers.target
`
	wantService := `# Kept by trued: timer:job
[Unit]
Description=Job of 100%%

[Service]
Type=oneshot
User=ada
WorkingDirectory=/srv/100%%
Environment="A=x y"
Environment=B=2
ExecStart="/opt/50%% off/run" "a b" "quote \" back \\ slash" "$$HOME" "" "{}"
`
	if got := r.timerText(); got != wantTimer {
		t.Errorf("the timer is\n%s", got)
	}
	if got := r.serviceText(); got != wantService {
		t.Errorf("the service is\n%s", got)
	}
}

func TestClaimsAreBothUnitsAndTheirFiles(t *testing.T) {
	r := filled(New(tree(t)), Resource{Title: "job", OnCalendar: "daily", Argv: []string{"/usr/local/bin/job"}, User: "ada", Dir: "/srv/job"})
	if err := r.Load(nil); err != nil {
		t.Fatal(err)
	}
	want := []resource.Claim{
		{Space: resource.SpaceUnit, Name: "job.timer"}, resource.Path("/etc/systemd/system/job.timer"),
		{Space: resource.SpaceUnit, Name: "job.service"}, resource.Path("/etc/systemd/system/job.service"),
	}
	if got := r.Claims(); !slices.Equal(got, want) {
		t.Errorf("claims are %v", got)
	}
	for _, c := range []resource.Claim{
		{Space: resource.SpaceUser, Name: "ada"}, resource.Path("/usr/local/bin/job"), resource.Path("/usr/local/bin"), resource.Path("/srv/job"),
	} {
		if !slices.Contains(r.Needs(), resource.Need{Claim: c}) {
			t.Errorf("the timer does not come after %s", c)
		}
	}
}

func TestATimerWaitsForItsUser(t *testing.T) {
	fill := Resource{Title: "job", OnCalendar: "daily", Line: "true", User: "ada"}
	m := New(tree(t))
	e := &resourcetest.Engine{Offline: true}
	var unknown *host.UnknownUserError
	r := filled(m, fill)
	if err := e.Load(r); err != nil {
		t.Fatal(err)
	}
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

func TestWrongValuesAreNamed(t *testing.T) {
	good := func(change func(*Resource)) *Resource {
		r := &Resource{Title: "job", OnCalendar: "daily", Argv: []string{"/bin/true"}}
		change(r)
		return r
	}
	for name, c := range map[string]struct {
		change func(*Resource)
		want   string
	}{
		"a suffix":            {func(r *Resource) { r.Title = "job.timer" }, `timer: "job.timer" has the suffix of a unit: write "job"`},
		"a space":             {func(r *Resource) { r.Title = "my job" }, `timer: "my job" holds characters that a unit's name cannot have: write "my\\x20job"`},
		"an instance":         {func(r *Resource) { r.Title = "job@x" }, "timer: \"job@x\" is a template"},
		"no time":             {func(r *Resource) { r.OnCalendar = "\n" }, "on_calendar: is empty"},
		"a line of cron":      {func(r *Resource) { r.OnCalendar = "30 2 * * *" }, "on_calendar: "},
		"one wrong of two":    {func(r *Resource) { r.OnCalendar = "daily\n25:00" }, `on_calendar: "25:00"`},
		"a delay below zero":  {func(r *Resource) { r.RandomDelay = -time.Second }, "random_delay: "},
		"no command":          {func(r *Resource) { r.Argv = nil }, "run: nothing says what to run"},
		"two commands":        {func(r *Resource) { r.Line = "true" }, "run: give one of"},
		"no absolute path":    {func(r *Resource) { r.Argv = []string{"true"} }, "argv: "},
		"no program":          {func(r *Resource) { r.Argv = []string{} }, "argv: "},
		"not a user":          {func(r *Resource) { r.User = "a b" }, "user: "},
		"a relative cwd":      {func(r *Resource) { r.Dir = "srv" }, "cwd: "},
		"not a variable":      {func(r *Resource) { r.Env = map[string]string{"A=B": ""} }, "env: "},
		"two lines about it":  {func(r *Resource) { r.Description = "a\nb" }, "description: "},
		"what cannot be kept": {func(r *Resource) { r.Sensitive = true }, "sensitive: systemd shows"},
	} {
		if err := good(c.change).Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Validate says %v, want %q", name, err, c.want)
		}
	}
	if err := good(func(*Resource) {}).Validate(); err != nil {
		t.Errorf("a good timer: %v", err)
	}
}
