package catalog_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"trued.dev/trued/internal/catalog"
)

// loadAny loads a tree of which nothing is known. Whatever it holds, there is a
// catalog or an error with a place.
func loadAny(t *testing.T, tree fstest.MapFS) {
	t.Helper()
	c, err := catalog.Load(input(tree))
	var all *catalog.Errors
	switch {
	case err == nil:
		for _, e := range c.Entries {
			if (e.Resource == nil) != (e.Pending != "") {
				t.Errorf("%s: resource %v, pending %q", e.Address, e.Resource, e.Pending)
			}
		}
	case !errors.As(err, &all) || len(all.List) == 0:
		t.Errorf("error %v is a %T", err, err)
	default:
		for _, e := range all.List {
			if e.Origin.File == "" || e.Message == "" {
				t.Errorf("error without a place: %+v", e)
			}
		}
	}
}

func FuzzManifest(f *testing.F) {
	cases, _ := filepath.Glob("testdata/*.txtar")
	for _, name := range cases {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for name, file := range repository(f, string(text)) {
			if filepath.Ext(name) == ".yaml" {
				f.Add(file.Data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, manifest []byte) {
		loadAny(t, fstest.MapFS{
			"groups/web/group.yaml": {Data: []byte("vars: {domain: example.org, sites: [a, b]}\n")},
			"groups/web/a.yaml":     {Data: manifest},
			"groups/web/files/a":    {Data: []byte("a")},
		})
		loadAny(t, fstest.MapFS{
			"groups/web/group.yaml": {Data: manifest},
			"groups/web/a.yaml":     {Data: []byte("- file: /etc/a\n")},
		})
	})
}

func FuzzTemplate(f *testing.F) {
	for _, seed := range []string{
		"{{ vars.domain }}", `{{ range vars.sites }}{{ . | quote }}{{ end }}`, `{{ get "vars.x" 1 | default 2 }}`,
		`{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}`, `{{ printf "%5.3s" "x" }}`,
		`{{ dict "a" (list 1 2) | toYaml | indent 2 }}`, `{{ regexReplace "(a)" "$1" "aa" }}`, `{{ b64dec "eA==" }}`,
		`{{ ternary 1 2 true }}{{ split "," "a,b" | join "-" }}`, `{{ with facts.os }}{{ .id }}{{ else }}{{ end }}`,
		`{{ $x := index vars.sites 0 }}{{ if has "a" vars.sites }}{{ $x }}{{ end }}`, `{{ block "x" . }}{{ .vars.domain }}{{ end }}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		loadAny(t, fstest.MapFS{
			"groups/web/group.yaml": {Data: []byte("vars: {domain: example.org, sites: [a, b]}\n")},
			"groups/web/a.yaml":     {Data: []byte("- file: /etc/a\n  template: t.tmpl\n")},
			"groups/web/t.tmpl":     {Data: []byte(text)},
		})
	})
}

func FuzzExpression(f *testing.F) {
	for _, seed := range []string{
		`facts.os.family == "debian"`, `any(vars.sites, # == "a")`, `get("vars.x", true)`, `vars.sites[0] startsWith "a"`,
		`len(filter(vars.sites, len(#) > 0)) + 1 > 2 ? true : false`, `vars["domain"] matches "^ex"`, `{"a": 1}.a == 1`,
		`vars?.domain ?? "x" == "x"`, `facts.os.id in ["a", "debian"] and not false`, `join(concat(vars.sites, ["x"]), ",") != ""`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		quoted := "'"
		for _, r := range text {
			if r == '\'' {
				quoted += "'"
			}
			quoted += string(r)
		}
		loadAny(t, fstest.MapFS{
			"groups/web/group.yaml": {Data: []byte("vars: {domain: example.org, sites: [a, b]}\n")},
			"groups/web/a.yaml":     {Data: []byte("- file: /etc/a\n  when: " + quoted + "'\n- file: /etc/b/{{ each.key }}\n  for_each: " + quoted + "'\n")},
		})
	})
}
