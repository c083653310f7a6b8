package catalog_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/resource"
)

// refused loads a tree, which must fail with a message that holds each part.
func refused(t *testing.T, tree fs.FS, parts ...string) {
	t.Helper()
	in := input(nil)
	in.Tree = tree
	_, err := catalog.Load(in)
	if err == nil {
		t.Fatal("loaded")
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not hold %q", err, part)
		}
	}
}

// bounded loads a tree that runs into the limit that is told; on a slow machine the
// one on time may come before it.
func bounded(t *testing.T, tree fs.FS, place, want string) {
	t.Helper()
	in := input(nil)
	in.Tree = tree
	_, err := catalog.Load(in)
	if err == nil {
		t.Fatal("loaded")
	}
	says := err.Error()
	if !strings.Contains(says, place) || !strings.Contains(says, want) && !strings.Contains(says, "takes longer than 10s") {
		t.Errorf("error %q does not hold %q at %q", says, want, place)
	}
}

// endless is a file of a size that nobody should read.
type endless struct {
	fs.FS
	name string
	size int64
	read *int64
}

func (e endless) Open(name string) (fs.File, error) {
	f, err := e.FS.Open(name)
	if name != e.name || err != nil {
		return f, err
	}
	return endlessFile{f, e}, nil
}

type endlessFile struct {
	fs.File
	e endless
}

func (f endlessFile) Stat() (fs.FileInfo, error) {
	info, err := f.File.Stat()
	return endlessInfo{info, f.e.size}, err
}

func (f endlessFile) Read(p []byte) (int, error) {
	*f.e.read += int64(len(p))
	for i := range p {
		p[i] = '#'
	}
	return len(p), nil
}

type endlessInfo struct {
	fs.FileInfo
	size int64
}

func (i endlessInfo) Size() int64 { return i.size }

func TestAManifestOf100MBIsNotRead(t *testing.T) {
	for _, c := range []struct {
		says string
		size int64
		most int64
	}{
		{"its size", 100 << 20, 0},
		{"a size that is not so", 10, 4 << 20},
	} {
		var read int64
		tree := endless{repository(t, "-- groups/web/big.yaml --\nx\n"), "groups/web/big.yaml", c.size, &read}
		refused(t, tree, "groups/web/big.yaml:1:1: larger than 2 MiB")
		if read > c.most {
			t.Errorf("with %s, %d bytes were read", c.says, read)
		}
	}
}

func TestAnAliasBombIsRefused(t *testing.T) {
	var b strings.Builder
	b.WriteString("-- groups/web/bomb.yaml --\n- &a0 {file: /x, content: lol}\n")
	for i := range 30 {
		prev := "*a" + string(rune('0'+i%10))
		b.WriteString("- &a" + string(rune('0'+(i+1)%10)) + " [" + strings.Repeat(prev+", ", 9) + prev + "]\n")
	}
	refused(t, repository(t, b.String()), "groups/web/bomb.yaml:", "values once its aliases are laid out")
	refused(t, repository(t, "-- groups/web/a.yaml --\n- &a {file: /x, content: [*a]}\n"), "alias *a is inside of what it stands for")
	refused(t, repository(t, "-- groups/web/a.yaml --\n"+strings.Repeat("[", 1000)+strings.Repeat("]", 1000)+"\n"), "nested deeper than 64 levels")
}

func TestATemplateThatRunsAwayIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ template, want string }{
		"a loop":             {`{{ range 9000000000000000000 }}{{ end }}`, "loops more than 200000 times"},
		"loops in loops":     {`{{ range 1000 }}{{ range 1000 }}x{{ end }}{{ end }}`, "loops more than"},
		"recursion":          {`{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}`, "more than 50 deep"},
		"recursion of all":   {`x{{ template "text" . }}`, "more than 50 deep"},
		"doubling calls":     {doublingCalls(), "loops more than"},
		"output":             {`{{ range 100000 }}` + strings.Repeat("x", 1000) + `{{ end }}`, "makes more than 16 MiB"},
		"doubling text":      {`{{ $s := "xxxxxxxx" }}{{ range 40 }}{{ $s = print $s $s }}{{ end }}`, "works on more than 64 MiB"},
		"doubling by joins":  {`{{ $s := "xxxxxxxx" }}{{ range 40 }}{{ $s = join $s (list $s $s) }}{{ end }}`, "works on more than 64 MiB"},
		"a wide print":       {`{{ printf "%1000000000d" 1 }}`, "a width of more than 1000"},
		"a wide print by *":  {`{{ printf "%*d" 1000000000 1 }}`, "a width of more than 1000"},
		"replacing":          {`{{ $s := "xxxxxxxx" }}{{ range 12 }}{{ $s = replace "x" $s $s }}{{ end }}`, "works on more than 64 MiB"},
		"regular expression": {`{{ $s := "xxxxxxxx" }}{{ range 40 }}{{ $s = regexReplace ".*" "$0$0$0" $s }}{{ end }}`, "works on more than 64 MiB"},
		"nesting":            {strings.Repeat(`{{ if 1 }}`, 100000), "more than 20000 actions"},
		"a list of itself":   {`{{ $x := list 1 }}{{ range 60 }}{{ $x = list $x $x }}{{ end }}{{ toJson $x }}`, "works on more than 64 MiB"},
		"a deep list":        {`{{ $x := list 1 }}{{ range 1000 }}{{ $x = list $x }}{{ end }}{{ toYaml $x }}`, "more than 100 deep"},
		"a list printed":     {`{{ $x := list 1 }}{{ range 60 }}{{ $x = list $x $x }}{{ end }}{{ print $x }}`, "a list cannot be printed"},
		"a list escaped":     {`{{ $x := list 1 }}{{ range 60 }}{{ $x = list $x $x }}{{ end }}{{ html $x }}`, "a list cannot be printed"},
		"leaving unasked":    {`{{ __leave }}`, `unknown name or function "__leave"`},
		"environment":        {`{{ env "HOME" }}`, `unknown name or function "env"`},
		"files":              {`{{ readFile "/etc/passwd" }}`, `unknown name or function "readFile"`},
	} {
		t.Run(name, func(t *testing.T) {
			tree := fstest.MapFS{
				"groups/web/t.tmpl": {Data: []byte(c.template)},
				"groups/web/a.yaml": {Data: []byte("- file: /etc/a\n  template: t.tmpl\n")},
			}
			bounded(t, tree, "groups/web/t.tmpl:1:", c.want)
		})
	}
}

// doublingCalls is a template that ends by itself after 2^30 calls.
func doublingCalls() string {
	var b strings.Builder
	for i := range 30 {
		next := string(rune('a' + i + 1))
		b.WriteString(`{{ define "` + string(rune('a'+i)) + `" }}{{ template "` + next + `" }}{{ template "` + next + `" }}{{ end }}`)
	}
	b.WriteString(`{{ define "` + string(rune('a'+30)) + `" }}{{ end }}{{ template "a" }}`)
	return b.String()
}

func TestAnExpressionThatRunsAwayIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ expression, want string }{
		"loops in loops":    {`count(1..10000, count(1..10000, true) > 0) > 0`, "makes more than 100000 values"},
		"loops over vars":   {`count(vars.many, count(vars.many, count(vars.many, true) > 0) > 0) > 0`, "loops more than 200000 times"},
		"deep loops":        {`any(vars.many, any(vars.many, any(vars.many, any(vars.many, true))))`, "more than 3 within each other"},
		"memory":            {`len(1..1000000) > 0`, "makes more than 100000 values"},
		"variables":         {`let a = "x"; a == "x"`, "let is not available in expressions"},
		"sequence":          {`1; true`, "; is not available in expressions"},
		"time":              {`len(now()) > 0`, `unknown name "now"`},
		"environment":       {`len($env) > 0`, "$env is not available in expressions"},
		"text":              {`len(join(map(1..10000, join(map(1..10000, vars.text))))) > 0`, "works on more than 64 MiB"},
		"upper case":        {`len(map(1..10000, upper(vars.text))) > 0`, "works on more than 64 MiB"},
		"splitting":         {`len(map(1..10000, split(vars.text, ""))) > 0`, "works on more than 64 MiB"},
		"adding":            {`len(map(1..10000, vars.text + vars.text)) > 0`, "works on more than 64 MiB"},
		"length":            {`"` + strings.Repeat("x", 5000) + `" == "x"`, "an expression of more than 4096 bytes"},
		"a hidden function": {`__plus(1, 2) == 3`, "only functions can be called"},
	} {
		t.Run(name, func(t *testing.T) {
			text := "-- groups/web/group.yaml --\nvars: {text: " + strings.Repeat("x", 10000) + ", many: [" +
				strings.Repeat("1, ", 1000) + "1]}\n-- groups/web/a.yaml --\n- file: /etc/a\n  when: '" + c.expression + "'\n"
			bounded(t, repository(t, text), "groups/web/a.yaml:2:", c.want)
		})
	}
}

// directories makes real files, since a link needs a real file system.
func directories(t *testing.T, text string, links map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, f := range repository(t, text) {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range links {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, file); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestALinkOutOfTheRepositoryIsRefused(t *testing.T) {
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("- file: /etc/secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	manifest := "-- groups/web/a.yaml --\n- file: /etc/a\n  source: files/a\n"
	for name, links := range map[string]map[string]string{
		"absolute":      {"groups/web/files/a": secret},
		"relative":      {"groups/web/files/a": "../../../../../../../../" + secret},
		"its directory": {"groups/web/files": outside},
		"by two steps":  {"groups/web/files/a": "../b", "groups/web/b": secret},
		"a circle":      {"groups/web/files/a": "a"},
		"of directories": {
			"groups/web/files": "../up/x", "groups/up": "../../" + filepath.Base(outside),
		},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, os.DirFS(directories(t, manifest, links)), "groups/web/a.yaml:2:11: file:/etc/a: ")
		})
	}
	t.Run("a manifest", func(t *testing.T) {
		dir := directories(t, "-- groups/web/b.yaml --\n- file: /etc/b\n", map[string]string{"groups/web/a.yaml": secret})
		refused(t, os.DirFS(dir), "groups/web/a.yaml:1:1: link \"groups/web/a.yaml\" leads out of the repository")
	})
	t.Run("a group", func(t *testing.T) {
		dir := directories(t, "-- groups/base/b.yaml --\n- file: /etc/b\n", map[string]string{"groups/web": outside})
		refused(t, os.DirFS(dir), "leads out of the repository")
	})
}

func TestALinkWithinTheRepositoryIsFollowed(t *testing.T) {
	dir := directories(t, `
-- shared/motd --
hello
-- groups/web/a.yaml --
- file: /etc/a
  source: files/motd
- file: /etc/b
  source: more/motd
`, map[string]string{
		"groups/web/files/motd": "../../../shared/motd",
		"groups/web/more":       "files",
		"groups/web/b.yaml":     "../../shared/manifest",
		"shared/manifest":       "other",
		"shared/other":          "../groups/web/a.yaml",
	})
	in := input(nil)
	in.Tree = os.DirFS(dir)
	_, err := catalog.Load(in)
	if err == nil || strings.Count(err.Error(), "already") != 2 {
		t.Errorf("the linked manifest holds the same two resources: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "groups/web/b.yaml")); err != nil {
		t.Fatal(err)
	}
	c, err := catalog.Load(in)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Entries[1].Resource.(*file).Body.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if data, err := io.ReadAll(r); err != nil || string(data) != "hello\n" {
		t.Errorf("content %q: %v", data, err)
	}
}

func TestATreeListsParentsFirstAndKeepsLinksThatStayInside(t *testing.T) {
	text := `
-- groups/web/tree/b/file --
x
-- groups/web/tree/a --
y
-- groups/web/a.yaml --
- directory: /srv
  source: tree
`
	dir := directories(t, text, map[string]string{"groups/web/tree/b/link": "../a", "groups/web/tree/c": "b/./file"})
	if err := os.Chmod(filepath.Join(dir, "groups/web/tree/a"), 0o700); err != nil {
		t.Fatal(err)
	}
	in := input(nil)
	in.Tree = os.DirFS(dir)
	c, err := catalog.Load(in)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range c.Entries[0].Resource.(*directory).Tree {
		switch {
		case e.Target != "":
			got = append(got, e.Path+"→"+e.Target)
		case e.Type == fs.ModeDir:
			got = append(got, e.Path+"/")
		case e.Content.Executable:
			got = append(got, e.Path+"*")
		default:
			got = append(got, e.Path)
		}
	}
	if s := strings.Join(got, " "); s != "a* b/ b/file b/link→../a c→b/./file" {
		t.Error(s)
	}
	for _, target := range []string{"../../../x", "/etc/passwd", "b/../../../x", "../.."} {
		dir := directories(t, text, map[string]string{"groups/web/tree/bad": target})
		refused(t, os.DirFS(dir), `link "bad" leads out of the directory, to "`+target+`"`)
	}
}

func TestValuesOfSensitiveResourcesStayOutOfMessages(t *testing.T) {
	got := refusal(t, `
-- groups/web/group.yaml --
vars: {password: hunter2}
-- groups/web/a.yaml --
- file: /etc/a
  sensitive: true
  mode: hunter2
  owner: [hunter2]
  backup: hunter2
  timeout: hunter2
- unit: b
  sensitive: true
  enabled: "{{ vars.password }}"
  retries: "{{ add 1 vars.password }}"
  restart_on: hunter2
`)
	if strings.Contains(got, "hunter2") {
		t.Errorf("the password is in:\n%s", got)
	}
	if n := strings.Count(got, "\n") + 1; n != 7 {
		t.Errorf("%d errors:\n%s", n, got)
	}
}

func TestOddButValidFilesAreRead(t *testing.T) {
	c := load(t, "-- groups/web/a.yaml --\n\xef\xbb\xbf- &a\n  file: /etc/a\n  mode: '0600'\n- <<: *a\n  file: /etc/b\n---\n"+
		"- file: /etc/c\n  content: !!binary aGk=\n---\n# nothing\n---\n- package: d\n"+
		"-- groups/web/b.yaml --\n# nothing at all\n-- groups/web/.hidden.yaml --\nnot: read\n-- groups/web/old.yml --\nnot: read\n")
	if got := addresses(c); got != "file:/etc/a file:/etc/b file:/etc/c package:d" {
		t.Fatal(got)
	}
	if mode := c.Entries[1].Resource.(*file).Mode.String(); mode != "0600" {
		t.Errorf("the merged mode is %q", mode)
	}
	if got := contents(t, c)["/etc/c"]; got != "hi" {
		t.Errorf("binary content %q", got)
	}
	if len(c.Warnings) != 1 || c.Warnings[0] != "groups/web/old.yml is not read: manifests end in .yaml" {
		t.Errorf("warnings %q", c.Warnings)
	}
}

func TestAMergedCatalogRefusesTheLaterOfTwoOwners(t *testing.T) {
	one := func(name, text string) *catalog.Catalog {
		t.Helper()
		in := input(repository(t, text))
		in.Name = name
		c, err := catalog.Load(in)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	infra := one("infra", "-- groups/web/a.yaml --\n- file: /etc/a\n- unit: nginx\n")
	clash := one("clash", "-- groups/web/a.yaml --\n- file: /etc/x\n- directory: /etc/a\n- unit: nginx\n")
	app := one("app", "-- groups/web/a.yaml --\n- file: /etc/x\n")
	m := catalog.Merge(infra, clash, app)
	var got []string
	for _, e := range m.Entries() {
		got = append(got, e.Origin.Source+"/"+e.Address.String())
	}
	if s := strings.Join(got, " "); s != "infra/file:/etc/a infra/unit:nginx.service app/file:/etc/x" {
		t.Error(s)
	}
	if len(m.Refused) != 1 || m.Refused[0].Catalog != clash {
		t.Fatalf("refused %v", m.Refused)
	}
	want := "groups/web/a.yaml:2:3: directory:/etc/a owns path:/etc/a, which file:/etc/a of source infra owns already, in groups/web/a.yaml:1:3\n" +
		"groups/web/a.yaml:3:3: unit:nginx.service is in source infra already, in groups/web/a.yaml:2:3"
	if got := m.Refused[0].Err.Error(); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestErrorsAreFoundAsSuch(t *testing.T) {
	_, err := catalog.Load(input(repository(t, "-- groups/web/a.yaml --\n- fiel: /etc/a\n")))
	var one catalog.Error
	if !errors.As(err, &one) || one.Suggestion != "file" || one.Origin != (resource.Origin{Source: "infra", Group: "groups/web", File: "groups/web/a.yaml", Line: 1, Column: 3}) {
		t.Errorf("%+v", one)
	}
}

func TestManyErrorsAreCut(t *testing.T) {
	var b bytes.Buffer
	b.WriteString("-- groups/web/a.yaml --\n")
	for range 5000 {
		b.WriteString("- fiel: /etc/a\n")
	}
	got := refusal(t, b.String())
	if n := strings.Count(got, "\n"); n != 100 {
		t.Errorf("%d lines", n+1)
	}
	if !strings.HasSuffix(got, "… and 1900 more") {
		t.Errorf("ends in %q", got[len(got)-30:])
	}
}
