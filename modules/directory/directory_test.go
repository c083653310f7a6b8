package directory

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

func scratch(t *testing.T) (*host.Host, string) {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(filepath.Join(root, "srv"), 0o755); err != nil {
		t.Fatal(err)
	}
	return host.New(root, host.Options{
		Backups: host.OpenBackups(filepath.Join(dir, "backups")),
		Digests: host.OpenDigests(filepath.Join(dir, "digests")),
	}), root
}

// put makes files below root: content by path, directories with a slash.
func put(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		at := filepath.Join(root, name)
		dir := filepath.Dir(at)
		if strings.HasSuffix(name, "/") {
			dir = at
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if dir == at {
			continue
		}
		if err := os.WriteFile(at, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func tree(files map[string]string) fstest.MapFS {
	made := fstest.MapFS{"t": {Mode: fs.ModeDir | 0o755}}
	for name, content := range files {
		mode := fs.FileMode(0o644)
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			mode, content = fs.ModeSymlink|0o777, target
		}
		made["t/"+name] = &fstest.MapFile{Data: []byte(content), Mode: mode}
	}
	return made
}

func fill(m resource.Module, with Resource) *Resource {
	with.host = m.New().(*Resource).host
	if with.Path == "" {
		with.Path = "/srv/www"
	}
	return &with
}

func TestAFileThatOthersMayNotReadIsTakenOverUnseen(t *testing.T) {
	h, root := scratch(t)
	put(t, root, map[string]string{"srv/www/a": "s3cr3t", "srv/www/b": "plain to see"})
	if err := os.Chmod(filepath.Join(root, "srv/www/a"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, e := New(h), &resourcetest.Engine{Tree: tree(map[string]string{"a": "new", "b": "new"}), Offline: true}
	r := fill(m, Resource{Source: "t"})
	if err := e.Load(r); err != nil {
		t.Fatal(err)
	}
	view := e.View(m, r)
	for range 2 { // the second time as after a first change that failed
		found, err := r.Check(t.Context(), view)
		said := fmt.Sprint(found.Diff)
		if err != nil || !found.Diff.Has("content:/srv/www/a") || strings.Contains(said, "s3cr3t") || !strings.Contains(said, "plain to see") {
			t.Errorf("found %+v, error %v", found.Diff, err)
		}
		if found.Prior != nil {
			view.Prior = found.Prior
		}
	}
}

func listed(t *testing.T, root string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(filepath.Join(root, "srv"), func(name string, _ fs.DirEntry, err error) error {
		names = append(names, strings.TrimPrefix(name, root+"/srv"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names[1:], " ")
}

func TestDirectoryKeepsThePromisesOfAModule(t *testing.T) {
	files := map[string]string{"index.html": "hello\n", "css/a.css": "a\n", "css/b.css": "b\n", "latest": "-> css/a.css"}
	for name, c := range map[string]struct {
		had    map[string]string
		fill   Resource
		secret string
	}{
		"a new directory":     {fill: Resource{Mode: resource.NewMode(0o2750)}},
		"another mode":        {had: map[string]string{"srv/www/": ""}, fill: Resource{Mode: resource.NewMode(0o700)}},
		"a tree":              {fill: Resource{Source: "t"}},
		"a tree over another": {had: map[string]string{"srv/www/index.html": "old", "srv/www/foreign": "x"}, fill: Resource{Source: "t", FileMode: resource.NewMode(0o640), DirectoryMode: resource.NewMode(0o750)}},
		"nothing above":       {fill: Resource{Path: "/srv/a/b/c", Source: "t", Parents: true}},
		"a file by force":     {had: map[string]string{"srv/www": "x"}, fill: Resource{Force: true}},
		"a secret tree":       {had: map[string]string{"srv/www/index.html": "old"}, fill: Resource{Source: "t"}, secret: "hello"},
		"an absent directory": {had: map[string]string{"srv/www/": ""}, fill: Resource{State: "absent"}},
	} {
		t.Run(name, func(t *testing.T) {
			h, root := scratch(t)
			put(t, root, c.had)
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource { return fill(m, c.fill) },
				Tree:     tree(files), Dirs: []string{root}, Offline: true, Secret: c.secret,
			})
		})
	}
}

func TestPurgeAndRecurseKeepThePromises(t *testing.T) {
	for name, with := range map[string]Resource{
		"purge":   {Purge: true, Source: "t"},
		"recurse": {Recurse: true, Mode: resource.NewMode(0o640)},
	} {
		t.Run(name, func(t *testing.T) {
			h, root := scratch(t)
			put(t, root, map[string]string{"srv/www/old/a": "a", "srv/www/old/b": "b", "srv/www/x": "x"})
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource { return fill(m, with) },
				Tree:     tree(map[string]string{"x": "new"}), Dirs: []string{root}, Offline: true,
				Leaves: true, // neither gives back what it took from others
			})
		})
	}
}

func TestWhatLeavesTheTreeIsPruned(t *testing.T) {
	h, root := scratch(t)
	put(t, root, map[string]string{"srv/www/was/here": "before", "srv/www/foreign": "x"})
	engine := &resourcetest.Engine{Tree: tree(map[string]string{"was/here": "1", "new/a": "2", "b": "3"}), Offline: true}
	m := New(h)
	run := func() resource.Finding {
		t.Helper()
		r := fill(m, Resource{Source: "t"})
		if err := engine.Load(r); err != nil {
			t.Fatal(err)
		}
		found, err := engine.Check(t.Context(), m, r)
		if err != nil {
			t.Fatal(err)
		}
		if err := engine.Converge(t.Context(), m, r); err != nil {
			t.Fatal(err)
		}
		if again, err := engine.Check(t.Context(), m, r); err != nil || !again.InOrder() {
			t.Fatalf("after Apply: %+v, error %v", again, err)
		}
		return found
	}
	run()
	engine.Tree = tree(map[string]string{"b": "3"})
	found := run()
	if len(found.Diff) == 0 {
		t.Error("nothing was to be pruned")
	}
	for _, c := range found.Diff {
		if c.Cause != resource.Prune {
			t.Errorf("%s has cause %q", c.Field, c.Cause)
		}
	}
	if got, want := listed(t, root), "/www /www/b /www/foreign /www/was /www/was/here"; got != want {
		t.Errorf("there is %s, want %s", got, want)
	}
	if data, err := os.ReadFile(filepath.Join(root, "srv/www/was/here")); err != nil || string(data) != "before" {
		t.Errorf("what was there before is %q, error %v", data, err)
	}
}

func TestATypeThatChangesInTheTreeChangesOnTheHost(t *testing.T) {
	h, root := scratch(t)
	engine := &resourcetest.Engine{Offline: true}
	m := New(h)
	for _, step := range []struct {
		files map[string]string
		want  string
	}{
		{map[string]string{"a": "file", "keep": ""}, "/www /www/a /www/keep"},
		{map[string]string{"a": "-> keep", "keep": ""}, "/www /www/a /www/keep"},
		{map[string]string{"a/b": "x", "keep": ""}, "/www /www/a /www/a/b /www/keep"},
	} {
		engine.Tree = tree(step.files)
		r := fill(m, Resource{Source: "t"})
		if err := engine.Load(r); err != nil {
			t.Fatal(err)
		}
		if err := engine.Converge(t.Context(), m, r); err != nil {
			t.Fatal(err)
		}
		if got := listed(t, root); got != step.want {
			t.Errorf("there is %s, want %s", got, step.want)
		}
	}
}

func TestPurgeSparesWhatOthersHold(t *testing.T) {
	h, root := scratch(t)
	put(t, root, map[string]string{
		"srv/www/mine": "", "srv/www/held": "", "srv/www/d/e/held": "", "srv/www/d/e/not": "", "srv/www/d/not": "", "srv/www/gone/x": "",
	})
	engine := &resourcetest.Engine{
		Tree: tree(map[string]string{"mine": ""}), Offline: true,
		Owner: func(c resource.Claim) (resource.Address, bool) {
			return resource.Address{Kind: "file", Name: c.Name}, strings.HasSuffix(c.Name, "/held")
		},
	}
	m := New(h)
	r := fill(m, Resource{Source: "t", Purge: true})
	if err := engine.Load(r); err != nil {
		t.Fatal(err)
	}
	if err := engine.Converge(t.Context(), m, r); err != nil {
		t.Fatal(err)
	}
	if got, want := listed(t, root), "/www /www/d /www/d/e /www/d/e/held /www/held /www/mine"; got != want {
		t.Errorf("there is %s, want %s", got, want)
	}
	if found, err := engine.Check(t.Context(), m, r); err != nil || !found.InOrder() {
		t.Errorf("after Apply: %+v, error %v", found, err)
	}
}

func TestAbsentRefusesWhatIsNotManagedUnlessForced(t *testing.T) {
	h, root := scratch(t)
	put(t, root, map[string]string{"srv/www/foreign": "x"})
	engine := &resourcetest.Engine{Offline: true}
	m := New(h)
	r := fill(m, Resource{State: "absent"})
	var foreign *ForeignError
	if _, err := engine.Check(t.Context(), m, r); !errors.As(err, &foreign) || !strings.Contains(err.Error(), "/srv/www/foreign") {
		t.Errorf("returned %v", err)
	}
	r.Force = true
	if err := engine.Converge(t.Context(), m, r); err != nil {
		t.Fatal(err)
	}
	if got := listed0(t, root); got != "" {
		t.Errorf("there is %s", got)
	}
}

func TestAPrunedDirectoryThatHoldsForeignFilesStays(t *testing.T) {
	h, root := scratch(t)
	engine := &resourcetest.Engine{Tree: tree(map[string]string{"a": "1"}), Offline: true}
	m := New(h)
	r := fill(m, Resource{Source: "t"})
	if err := engine.Load(r); err != nil {
		t.Fatal(err)
	}
	if err := engine.Converge(t.Context(), m, r); err != nil {
		t.Fatal(err)
	}
	put(t, root, map[string]string{"srv/www/foreign": "x"})
	gone, err := engine.Absent(m, r)
	if err != nil {
		t.Fatal(err)
	}
	found, err := engine.CheckAbsent(t.Context(), m, r, gone)
	if err != nil || !strings.Contains(found.Note, "/srv/www holds what is not managed") {
		t.Errorf("found %+v, error %v", found, err)
	}
	if err := engine.Leave(t.Context(), m, r, gone); err != nil {
		t.Fatal(err)
	}
	if got, want := listed(t, root), "/www /www/foreign"; got != want {
		t.Errorf("there is %s, want %s", got, want)
	}
}

func TestLinksThatLeaveTheTreeAreRefused(t *testing.T) {
	for _, target := range []string{"/etc/passwd", "../out", "x/../../out", ".."} {
		r := Resource{Path: "/srv/www", Tree: []resource.TreeEntry{{Path: "l", Type: fs.ModeSymlink, Target: target}}}
		if err := r.Validate(); err == nil {
			t.Errorf("a link to %q was taken", target)
		}
	}
	r := Resource{Path: "/srv/www", Tree: []resource.TreeEntry{{Path: "a/l", Type: fs.ModeSymlink, Target: "../b"}}}
	if err := r.Validate(); err != nil {
		t.Errorf("a link within the tree: %v", err)
	}
}

func listed0(t *testing.T, root string) string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, "srv"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func BenchmarkCheckOfATreeInOrder(b *testing.B) {
	files := map[string]string{}
	for d := range 50 {
		for f := range 20 {
			files[fmt.Sprintf("d%d/f%d", d, f)] = fmt.Sprint(d, f)
		}
	}
	dir := b.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "root/srv"), 0o755); err != nil {
		b.Fatal(err)
	}
	h := host.New(filepath.Join(dir, "root"), host.Options{Digests: host.OpenDigests(filepath.Join(dir, "digests"))})
	m, engine := New(h), &resourcetest.Engine{Tree: tree(files), Offline: true}
	r := fill(m, Resource{Source: "t", FileMode: resource.NewMode(0o644)})
	if err := engine.Load(r); err != nil {
		b.Fatal(err)
	}
	if err := engine.Converge(b.Context(), m, r); err != nil {
		b.Fatal(err)
	}
	view := engine.View(m, r)
	time.Sleep(200 * time.Millisecond) // until what was written is no longer young
	if _, err := r.Check(b.Context(), view); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if found, err := r.Check(b.Context(), view); err != nil || !found.InOrder() {
			b.Fatal(found, err)
		}
	}
}
