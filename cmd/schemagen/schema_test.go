package main

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"trued.dev/trued/internal/document"
	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/modules"
	"trued.dev/trued/packaging"
)

const root = "../.."

// compiled returns one of the schemas that the program carries.
func compiled(t *testing.T, text string) *jsonschema.Schema {
	t.Helper()
	parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", parsed); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// judge holds each document of a text against a schema.
func judge(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	docs, problems := document.Parse([]byte(text))
	if len(problems) > 0 {
		t.Fatalf("not YAML: %v\n%s", problems, text)
	}
	for _, doc := range docs {
		if err := s.Validate(doc.Any()); err != nil {
			return err
		}
	}
	return nil
}

func TestTheExamplesOfAllKindsAreValid(t *testing.T) {
	s := compiled(t, packaging.ManifestSchema)
	for _, m := range modules.All(host.New("/", host.Options{})) {
		e, ok := m.(resource.Exemplar)
		if !ok {
			t.Errorf("%s has no example", m.Kind())
			continue
		}
		if err := judge(t, s, e.Example()); err != nil {
			t.Errorf("the example of %s: %v", m.Kind(), err)
		}
	}
}

// schemaOf returns the schema that a file of a repository is held against; "" for
// one that has none.
func schemaOf(name string) string {
	dir, base := path.Split(name)
	switch {
	case path.Ext(name) != ".yaml" || strings.Contains(dir, "/files/") || strings.Contains(dir, "/templates/") || strings.Contains(dir, "/hosts/"):
		return ""
	case base == "hosts.yaml":
		return packaging.HostsSchema
	case base == "group.yaml":
		return packaging.GroupSchema
	case strings.Contains(dir, "groups/"):
		return packaging.ManifestSchema
	}
	return ""
}

func TestTheExampleRepositoryIsValid(t *testing.T) {
	n := 0
	err := filepath.WalkDir(root+"/testdata/example", func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || schemaOf(name) == "" {
			return err
		}
		n++
		text, err := os.ReadFile(name)
		if err == nil {
			if err := judge(t, compiled(t, schemaOf(name)), string(text)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		return err
	})
	if err != nil || n < 8 {
		t.Errorf("%d files were read, error %v", n, err)
	}
}

func TestTheExamplesInTheREADMEAreValid(t *testing.T) {
	text, err := os.ReadFile(root + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		kind, s := ofBlock(t, block[1])
		if n[kind]++; s == "" {
			continue
		}
		if err := judge(t, compiled(t, s), block[1]); err != nil {
			t.Errorf("%v\n%s", err, block[1])
		}
	}
	if n["manifest"] < 25 || n["group"] < 4 || n["hosts"] < 1 || n["agent"] < 5 {
		t.Errorf("there are %v", n)
	}
}

// ofBlock tells what an example is of by its keys, with the schema of that. The
// agent's own configuration and policy have none: the tests of the program load
// them.
func ofBlock(t *testing.T, text string) (kind, schema string) {
	t.Helper()
	docs, problems := document.Parse([]byte(text))
	if len(problems) > 0 {
		t.Fatalf("not YAML: %v\n%s", problems, text)
	}
	if len(docs) == 0 {
		return "nothing", ""
	}
	keys, isMap := docs[0].Any().(map[string]any)
	if !isMap {
		return "manifest", packaging.ManifestSchema
	}
	if strings.HasPrefix(text, "# hosts.yaml") {
		return "hosts", packaging.HostsSchema
	}
	for _, key := range []string{"include", "vars", "health", "windows", "reboot"} {
		if _, ok := keys[key]; ok {
			return "group", packaging.GroupSchema
		}
	}
	return "agent", ""
}

// wrongOnPurpose are files of scripts that no schema takes.
var wrongOnPurpose = []string{"validate.txtar bad/groups/base/a.yaml", "validate.txtar bad/groups/web/a.yaml"}

func TestTheManifestsOfTheScriptsAreValid(t *testing.T) {
	scripts, err := filepath.Glob(root + "/testdata/script/*.txtar")
	if err != nil || len(scripts) < 20 {
		t.Fatalf("%d scripts, error %v", len(scripts), err)
	}
	for _, script := range scripts {
		archive, err := txtar.ParseFile(script)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			name := filepath.Base(script) + " " + f.Name
			if schemaOf(f.Name) == "" {
				continue
			}
			wrong := slices.Contains(wrongOnPurpose, name)
			if docs, problems := document.Parse(f.Data); len(problems) > 0 || len(docs) == 0 {
				continue // no YAML, on purpose
			}
			if err := judge(t, compiled(t, schemaOf(f.Name)), string(f.Data)); (err != nil) != wrong {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestWhatIsWrongIsRefused(t *testing.T) {
	s := compiled(t, packaging.ManifestSchema)
	for name, text := range map[string]string{
		"a misspelt key":            "- file: /etc/motd\n  contents: x\n",
		"a misspelt kind":           "- fiel: /etc/motd\n  content: x\n",
		"no kind":                   "- content: x\n",
		"two kinds":                 "- file: /etc/motd\n  unit: a.service\n",
		"two kinds, one with both":  "- package: nginx\n  file: /etc/motd\n  group: root\n",
		"one resource and no list":  "file: /etc/motd\n",
		"a text and no resource":    "- /etc/motd\n",
		"a boolean in words":        "- unit: a.service\n  enabled: \"yes\"\n",
		"a boolean where text goes": "- file: /etc/motd\n  content: true\n",
		"a text where a list goes":  "- unit: a.service\n  restart_on: file:/etc/motd\n",
		"a list where text goes":    "- file: /etc/motd\n  content: [x]\n",
		"a map where a list goes":   "- command: x\n  argv: {a: b}\n  creates: /x\n",
		"a word that is none":       "- file: /etc/motd\n  state: gone\n",
		"drift that is none":        "- file: /etc/motd\n  drift: ignore\n",
		"a mode without a zero":     "- file: /etc/motd\n  mode: \"644\"\n",
		"a time without a unit":     "- file: /etc/motd\n  timeout: 5\n",
		"a number of words":         "- group: a\n  gid: many\n",
		"no name":                   "- file: ~\n",
		"a name that is a map":      "- file: {a: b}\n",
		"null":                      "- file: /etc/motd\n  content: ~\n",
		"a key of another kind":     "- file: /etc/motd\n  on_calendar: daily\n",
		"group.yaml":                "include: [groups/base]\n",
	} {
		if judge(t, s, text) == nil {
			t.Errorf("%s is taken:\n%s", name, text)
		}
	}
	for name, text := range map[string]string{"a misspelt key": "includes: [a]\n", "a list of one": "include: a\n"} {
		if judge(t, compiled(t, packaging.GroupSchema), text) == nil {
			t.Errorf("group.yaml: %s is taken", name)
		}
	}
	for name, text := range map[string]string{"a misspelt key": "web: {groups: a}\n", "a group alone": "web: a\n"} {
		if judge(t, compiled(t, packaging.HostsSchema), text) == nil {
			t.Errorf("hosts.yaml: %s is taken", name)
		}
	}
}

func TestWhatTheLoaderTakesIsTaken(t *testing.T) {
	s := compiled(t, packaging.ManifestSchema)
	for name, text := range map[string]string{
		"nothing":                "",
		"two documents":          "- file: /a\n---\n- file: /b\n",
		"many names":             "- package: [nginx, curl]\n",
		"a key that is a kind":   "- file: /a\n  group: root\n",
		"another one":            "- user: a\n  group: b\n- cron: a\n  user: b\n  schedule: '@daily'\n  run: x\n",
		"a templated boolean":    "- unit: a.service\n  enabled: \"{{ vars.on }}\"\n",
		"a templated list":       "- group: a\n  members: \"{{ vars.x | toJson }}\"\n",
		"a templated word":       "- file: /a\n  state: \"{{ vars.state }}\"\n",
		"a templated mode":       "- file: /a\n  mode: \"{{ vars.mode }}\"\n",
		"a templated time":       "- file: /a\n  timeout: \"{{ vars.time }}\"\n",
		"modes":                  "- file: /a\n  mode: 0644\n- file: /b\n  mode: \"04755\"\n- file: /c\n  mode: 0o600\n",
		"a number as text":       "- sysctl: net.core.somaxconn\n  value: 4096\n- file: /a\n  owner: 0\n",
		"loops":                  "- file: \"/{{ each.value }}\"\n  for_each: [a, b]\n- file: \"/{{ each.key }}\"\n  for_each: {a: b}\n- file: /a\n  for_each: vars.x\n",
		"conditions":             "- file: /a\n  when: false\n- file: /a\n  when: facts.os.family == \"debian\"\n",
		"all that each can take": "- file: /a\n  requires: [file:/b]\n  drift: report\n  ignore: [mode]\n  prune: false\n  sensitive: true\n  timeout: 1m30s\n  raw: true\n  override: true\n",
	} {
		if err := judge(t, s, text); err != nil {
			t.Errorf("%s is refused: %v", name, err)
		}
	}
}
