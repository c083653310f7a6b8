package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

// on returns the running machine: what the commands of these tests do stays in
// directories of their own.
func on(root string) *host.Host { return host.New(root, host.Options{}) }

func filled(m resource.Module, fill Resource) *Resource {
	r := m.New().(*Resource)
	fill.host = r.host
	*r = fill
	if r.Title == "" {
		r.Title = "x"
	}
	return r
}

// in replaces DIR in what a command is made of.
func in(dir string, r Resource) Resource {
	for _, s := range []*string{&r.Title, &r.Line, &r.Creates, &r.Removes, &r.Unless, &r.OnlyIf, &r.Dir} {
		*s = strings.ReplaceAll(*s, "DIR", dir)
	}
	for i := range r.Argv {
		r.Argv[i] = strings.ReplaceAll(r.Argv[i], "DIR", dir)
	}
	return r
}

func promises() map[string]Resource {
	return map[string]Resource{
		"creates":       {Line: "touch DIR/made", Creates: "DIR/made"},
		"removes":       {Argv: []string{"rm", "DIR/there"}, Removes: "DIR/there"},
		"unless":        {Line: "touch DIR/made", Unless: "test -e DIR/made"},
		"onlyif":        {Line: "rm there", OnlyIf: "test -e there", Dir: "DIR"},
		"the name":      {Title: "touch DIR/made", Creates: "DIR/made"},
		"several":       {Line: "mv DIR/there DIR/made", Creates: "DIR/made", Removes: "DIR/there", OnlyIf: "test -e DIR/there"},
		"sensitive":     {Line: "echo s3cr3t; echo s3cr3t >DIR/made", Creates: "DIR/made", Meta: resource.Meta{Sensitive: true}},
		"sensitive env": {Line: "echo $P; touch DIR/made", Creates: "DIR/made", Env: map[string]string{"P": "s3cr3t"}, Meta: resource.Meta{Sensitive: true}},
	}
}

func conform(t *testing.T, h *host.Host, fill Resource) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "there"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	secret := ""
	if fill.Sensitive {
		secret = "s3cr3t"
	}
	resourcetest.Run(t, resourcetest.Case{
		Module:   func() resource.Module { return New(h) },
		Resource: func(m resource.Module) resource.Resource { return filled(m, in(dir, fill)) },
		Dirs:     []string{dir}, Leaves: true, Secret: secret,
	})
}

func TestCommandKeepsThePromisesOfAModule(t *testing.T) {
	for name, fill := range promises() {
		t.Run(name, func(t *testing.T) { conform(t, on("/"), fill) })
	}
}

func TestOnHost(t *testing.T) {
	if !hosttest.Inside(t, hosttest.Options{Name: "command"}, "useradd -m -G adm app") {
		return
	}
	for name, fill := range promises() {
		t.Run(name, func(t *testing.T) { conform(t, on("/"), fill) })
	}
	t.Run("another user", func(t *testing.T) {
		result, err := apply(t, t.Context(), Resource{User: "app", Line: "id; pwd; echo $HOME $USER $PATH; id -nG >/home/app/made", Creates: "/home/app/made"})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"uid=1000(app) gid=1000(app) groups=1000(app),4(adm)", "\n/\n", "/home/app app /usr/local/sbin:"} {
			if !strings.Contains(result.Changes[0].New, want) {
				t.Errorf("no %q in %s", want, result.Changes[0].New)
			}
		}
		if i, err := on("/").Lstat("/home/app/made"); err != nil || on("/").UserName(i.UID()) != "app" {
			t.Errorf("the file is %d's, error %v", i.UID(), err)
		}
	})
}

// apply runs a command whose guards want it run.
func apply(t *testing.T, ctx context.Context, fill Resource) (resource.Result, error) { //nolint:revive // a test's own context is not this one
	t.Helper()
	m := New(on("/"))
	r := filled(m, fill)
	e := &resourcetest.Engine{}
	found, err := e.Check(t.Context(), m, r)
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Diff) == 0 {
		t.Fatalf("Check found %+v", found)
	}
	return r.Apply(ctx, e.View(m, r), found)
}

func TestTheGuardsDecide(t *testing.T) {
	for name, c := range map[string]struct {
		fill Resource
		note string // "" for nothing to do
	}{
		"creates what is missing":  {Resource{Creates: "DIR/none"}, "would run, since DIR/none is missing"},
		"creates what is there":    {Resource{Creates: "DIR/there"}, ""},
		"removes what is there":    {Resource{Removes: "DIR/there"}, "would run, since DIR/there is there"},
		"removes what is missing":  {Resource{Removes: "DIR/none"}, ""},
		"unless it succeeds":       {Resource{Unless: "true"}, ""},
		"unless it fails":          {Resource{Unless: "exit 3"}, "would run, since unless gave exit code 3"},
		"only if it succeeds":      {Resource{OnlyIf: "true"}, "would run, since onlyif gave exit code 0"},
		"only if it fails":         {Resource{OnlyIf: "false"}, ""},
		"all must agree":           {Resource{Creates: "DIR/none", Unless: "true"}, ""},
		"a path spares a program":  {Resource{Creates: "DIR/there", Unless: "touch DIR/asked"}, ""},
		"all agree":                {Resource{Creates: "DIR/none", OnlyIf: "true"}, "would run, since DIR/none is missing and onlyif gave exit code 0"},
		"a guard reads no input":   {Resource{Unless: "! grep -q ."}, ""},
		"a guard in a directory":   {Resource{Unless: "test -e there", Dir: "DIR"}, ""},
		"a guard with a variable":  {Resource{Unless: `test "$A" = b`, Env: map[string]string{"A": "b"}}, ""},
		"run_on alone is in order": {Resource{RunOn: []string{"file:/x"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "there"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			m := New(on("/"))
			r := filled(m, in(dir, c.fill))
			r.Line = "exit 1"
			found, err := (&resourcetest.Engine{}).Check(t.Context(), m, r)
			if want := strings.ReplaceAll(c.note, "DIR", dir); err != nil || found.Note != want || (len(found.Diff) == 0) != (want == "") {
				t.Errorf("found %+v, error %v", found, err)
			}
			if _, err := os.Lstat(filepath.Join(dir, "asked")); err == nil {
				t.Error("a guard that need not be asked was asked")
			}
		})
	}
}

func TestWhatComesOfACommand(t *testing.T) {
	for name, c := range map[string]struct {
		fill   Resource
		output string
		fails  string
	}{
		"what it printed is told":          {Resource{Line: "echo out; echo err >&2; touch DIR/made"}, "out\nerr", ""},
		"it fails":                         {Resource{Line: "echo no; exit 7"}, "", "\"echo no; exit 7\" gave exit code 7:\nno"},
		"an exit code that is accepted":    {Resource{Line: "touch DIR/made; exit 7", ExitCodes: []int{0, 7}}, "", ""},
		"0 that is not":                    {Resource{Line: "true", ExitCodes: []int{7}}, "", `"true" gave exit code 0`},
		"a signal":                         {Resource{Line: "kill -9 $$"}, "", "was ended by signal: killed"},
		"no such program":                  {Resource{Argv: []string{"/no/such"}}, "", "no such file"},
		"a guard that stays":               {Resource{Line: "echo done"}, "done", "was run, and its guard would still have it run, since DIR/made is missing"},
		"no shell between":                 {Resource{Argv: []string{"touch", "DIR/made", "DIR/$HOME"}}, "", ""},
		"it reads its input":               {Resource{Line: "cat; touch DIR/made"}, "", ""},
		"a hundred megabytes":              {Resource{Line: "head -c 100000000 /dev/zero | tr '\\0' x; echo; echo the end; touch DIR/made"}, "…" + strings.Repeat("x", outputKept-8) + "\nthe end", ""},
		"a child that closes its output":   {Resource{Line: "sleep 300 >/dev/null 2>&1 & echo $! >DIR/pid; touch DIR/made"}, "", ""},
		"a child that holds on to output":  {Resource{Line: "sleep 300 & echo $! >DIR/pid; echo started; touch DIR/made"}, "started", ""},
		"a directory that is not there":    {Resource{Line: "true", Dir: "DIR/none"}, "", "no such file"},
		"a variable":                       {Resource{Line: `echo "$A"; touch DIR/made`, Env: map[string]string{"A": "b c"}}, "b c", ""},
		"nothing of the agent's own":       {Resource{Line: `echo "$TRUED_TEST_SECRET"; touch DIR/made`}, "", ""},
		"the root directory, if no other":  {Resource{Line: "pwd; touch DIR/made"}, "/", ""},
		"a sensitive failure says nothing": {Resource{Line: "echo s3cr3t; exit 7", Meta: resource.Meta{Sensitive: true}}, "", "the command gave exit code 7"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TRUED_TEST_SECRET", "hush")
			dir := t.TempDir()
			t.Cleanup(func() { endChild(t, filepath.Join(dir, "pid")) })
			fill := in(dir, c.fill)
			fill.Creates = filepath.Join(dir, "made")
			result, err := apply(t, t.Context(), fill)
			want := strings.ReplaceAll(c.fails, "DIR", dir)
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Fatalf("error %v, want %q", err, want)
			}
			if err != nil && fill.Sensitive && strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("the secret is in %v", err)
			}
			var got string
			for _, change := range result.Changes {
				got += change.New
			}
			if got != c.output {
				t.Errorf("the output is %q, want %q", got, c.output)
			}
		})
	}
}

// endChild ends what a command left behind, which must be alive still.
func endChild(t *testing.T, pidFile string) {
	t.Helper()
	text, err := os.ReadFile(pidFile)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	pid, convErr := strconv.Atoi(strings.TrimSpace(string(text)))
	if err := errors.Join(err, convErr, syscall.Kill(pid, syscall.SIGKILL)); err != nil {
		t.Errorf("what the command left running is gone: %v", err)
	}
}

func TestACommandThatHangsIsEndedWithItsChildren(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	deadline := &expiring{Context: ctx}
	go func() {
		for {
			if text, err := os.ReadFile(filepath.Join(dir, "pid")); err == nil && strings.HasSuffix(string(text), "\n") {
				cancel(nil)
				return
			}
			time.Sleep(time.Millisecond) // until it hangs
		}
	}()
	_, err := apply(t, deadline, in(dir, Resource{Line: "sleep 300 & echo $! >DIR/pid; wait", Creates: "DIR/made"}))
	if err == nil || !strings.Contains(err.Error(), "did not end within its timeout, and was ended") {
		t.Errorf("returned %v", err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	status := fmt.Sprintf("/proc/%s/stat", strings.TrimSpace(string(text)))
	for {
		stat, err := os.ReadFile(status)
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return // gone, or nobody has fetched it yet
		}
		time.Sleep(time.Millisecond)
	}
}

// expiring is a context that says its time is over when it is cancelled.
type expiring struct{ context.Context }

func (e *expiring) Err() error {
	if e.Context.Err() != nil {
		return context.DeadlineExceeded
	}
	return nil
}

func TestATriggerRunsTheCommand(t *testing.T) {
	for name, c := range map[string]struct {
		fill    Resource
		offline bool
		ran     bool
	}{
		"without a guard":             {fill: Resource{}, ran: true},
		"a guard that agrees":         {fill: Resource{OnlyIf: "true"}, ran: true},
		"a guard that has it done":    {fill: Resource{Unless: "true"}},
		"in a tree that is no system": {fill: Resource{}, offline: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			m := New(on("/"))
			r := filled(m, in(dir, c.fill))
			r.Line, r.RunOn = "echo ran >>"+dir+"/ran", []string{"file:/x"}
			view := (&resourcetest.Engine{Offline: c.offline}).View(m, r)
			if _, err := r.React(t.Context(), view, []resource.Reaction{resource.Run}); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(dir + "/ran"); (err == nil) != c.ran {
				t.Errorf("ran: %v, want %v", err == nil, c.ran)
			}
		})
	}
}

func TestATreeRunsNothing(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "there"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		fill    Resource
		pending string
	}{
		"a guard that can be told":    {Resource{Creates: "/there"}, ""},
		"a path that is missing":      {Resource{Creates: "/none"}, notBooted},
		"a guard that cannot be told": {Resource{Unless: "true"}, notBooted},
		"a trigger":                   {Resource{RunOn: []string{"file:/x"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := New(on(root))
			found, err := (&resourcetest.Engine{Offline: true}).Check(t.Context(), m, filled(m, c.fill))
			if err != nil || found.Pending != c.pending || len(found.Diff) > 0 {
				t.Errorf("found %+v, error %v", found, err)
			}
		})
	}
}

func TestWhatIsMadeLaterIsAwaited(t *testing.T) {
	m := New(on("/"))
	owner := func(c resource.Claim) (resource.Address, bool) {
		return resource.Address{Kind: c.Space, Name: c.Name}, c.Space != Space
	}
	for name, c := range map[string]struct {
		fill Resource
		want string
	}{
		"a user":      {Resource{Unless: "true", User: "no-such-user"}, "user:no-such-user is made"},
		"a directory": {Resource{Unless: "true", Dir: "/no/such"}, "path:/no/such is made"},
	} {
		found, err := (&resourcetest.Engine{Owner: owner}).Check(t.Context(), m, filled(m, c.fill))
		if err != nil || found.Unknown != c.want {
			t.Errorf("%s: found %+v, error %v", name, found, err)
		}
	}
}

func TestWrongValuesAreNamed(t *testing.T) {
	guarded := Resource{Creates: "/x"}
	for name, c := range map[string]struct {
		change func(*Resource)
		field  string
	}{
		"no guard":           {func(r *Resource) { r.Creates = "" }, "command"},
		"two lines":          {func(r *Resource) { r.Title = "a\nb" }, "command"},
		"run and argv":       {func(r *Resource) { r.Line, r.Argv = "a", []string{"a"} }, "run"},
		"no program":         {func(r *Resource) { r.Argv = []string{} }, "argv"},
		"a relative path":    {func(r *Resource) { r.Creates = "x" }, "creates"},
		"made and taken":     {func(r *Resource) { r.Removes = "/x" }, "removes"},
		"a name of a value":  {func(r *Resource) { r.Env = map[string]string{"A=B": "c"} }, "env"},
		"a large exit code":  {func(r *Resource) { r.ExitCodes = []int{256} }, "exit_codes"},
		"a relative workdir": {func(r *Resource) { r.Dir = "x" }, "cwd"},
	} {
		r := guarded
		r.Title = "x"
		c.change(&r)
		var wrong *resource.FieldError
		if err := r.Validate(); !errors.As(err, &wrong) || wrong.Field != c.field {
			t.Errorf("%s: returned %v, want an error in %s", name, err, c.field)
		}
	}
	unguarded := Resource{Title: "reboot"}
	if err := unguarded.Validate(); err == nil || !strings.Contains(err.Error(), "it would run every time and never be in order") {
		t.Errorf("an unguarded command gave %v", err)
	}
}
