package catalog_test

import (
	"strings"
	"testing"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/resource"
)

func TestFunctionsOfTemplates(t *testing.T) {
	vars := "-- groups/web/group.yaml --\nvars: {empty: '', none: null, list: [b, a, 3], map: {y: 1, x: [1, two]}, multi: \"a\\nb\", n: 7, f: 1.5, on: true}\n"
	for template, want := range map[string]string{
		`{{ vars.empty | default "d" }} {{ vars.none | default "d" }} {{ default 1 0 }}`: "d d 0",
		`{{ required "msg" vars.n }}`:                                                                             "7",
		`{{ join "," vars.list }} {{ vars.list | sort | join "-" }}`:                                              "b,a,3 3-a-b",
		`{{ range split "," "x,y" }}[{{ . }}]{{ end }}`:                                                           "[x][y]",
		`{{ indent 2 vars.multi }}|{{ nindent 1 "z" }}`:                                                           "  a\n  b|\n z",
		`{{ quote "a\"b" }} {{ squote "it's" }}`:                                                                  `"a\"b" 'it'\''s'`,
		`{{ toYaml vars.map }}`:                                                                                   "x:\n  - 1\n  - two\n\"y\": 1",
		`{{ toJson vars.map }} {{ toJson vars.none }}`:                                                            `{"x":[1,"two"],"y":1} null`,
		`{{ b64enc "hi" }} {{ b64dec "aGk=" }} {{ sha256sum "" | printf "%.8s" }}`:                                "aGk= hi e3b0c442",
		`{{ ternary "y" "n" vars.on }} {{ ternary "y" "n" (eq vars.n 8) }}`:                                       "y n",
		`{{ regexReplace "([0-9]+)" "<$1>" "a1b22" }} {{ regexMatch "^a" "ab" }}`:                                 "a<1>b<22> true",
		`{{ upper "a" }}{{ lower "B" }}{{ trim " c " }}{{ trimPrefix "x" "xd" }}{{ trimSuffix "x" "ex" }}`:        "Abcde",
		`{{ replace "a" "b" "aa" }} {{ contains "b" "abc" }} {{ hasPrefix "b" "abc" }} {{ hasSuffix "c" "abc" }}`: "bb true false true",
		`{{ keys vars.map | join "," }} {{ has "a" vars.list }} {{ has 3 vars.list }} {{ has "q" vars.map }}`:     "x,y true true false",
		`{{ (dict "k" "v").k }} {{ index (list 1 2) 1 }}`:                                                         "v 2",
		`{{ add vars.n 1 }} {{ sub 5 2 }} {{ mul 2 3 }} {{ div 7 2 }} {{ mod 7 2 }} {{ int "12" }}`:               "8 3 6 3 1 12",
		`{{ vars.f }} {{ vars.on }} {{ len vars.list }} {{ printf "%05d|%-3s|" vars.n "a" }}`:                     "1.5 true 3 00007|a  |",
		`{{ html "<a>" }} {{ urlquery "a b" }}`:                                                                   "&lt;a&gt; a+b",
		`{{ with vars.map }}{{ .y }}{{ end }}{{ $.vars.n }}{{ $x := vars.n }}{{ $x }}`:                            "177",
		`{{ define "t" }}<{{ .vars.n }}>{{ end }}{{ template "t" . }}`:                                            "<7>",
		`{{ range $i, $v := vars.list }}{{ if eq $i 2 }}{{ break }}{{ end }}{{ $v }}{{ end }}`:                    "ba",
	} {
		text := vars + "-- groups/web/a.yaml --\n- file: /etc/a\n  content: |-\n    x" + strings.ReplaceAll(template, "\n", "\n    ") + "\n"
		c := load(t, text)
		if got := contents(t, c)["/etc/a"]; got != "x"+want {
			t.Errorf("%s\n got %q\nwant %q", template, got, "x"+want)
		}
	}
}

func TestFunctionsOfExpressions(t *testing.T) {
	vars := "-- groups/web/group.yaml --\nvars: {list: [b, a], map: {y: 1, x: 2}, text: AbC, n: 7, names: [{n: a}, {n: b}]}\n"
	for _, expression := range []string{
		`join(vars.list, "-") == "b-a" and join(sort(vars.list)) == "ab"`,
		`concat(vars.list, ["c"])[2] == "c"`,
		`upper(vars.text) == "ABC" and lower(vars.text) == "abc"`,
		`split("a,b", ",")[1] == "b"`,
		`keys(vars.map)[0] == "x" and values(vars.map)[0] == 2`,
		`string(vars.n) + "x" == "7x" and vars.n + 1 == 8 and 1 + 1.5 == 2.5`,
		`"a" in vars.list and not ("z" in vars.list) and "x" in vars.map`,
		`vars.text startsWith "Ab" and vars.text matches "^A.C$" and vars.text contains "b"`,
		`any(vars.names, .n == "b") and all(vars.names, len(#.n) == 1) and count(vars.names, .n == "a") == 1`,
		`filter(vars.names, .n != "a")[0].n == "b" and map(vars.names, .n)[0] == "a"`,
		`vars.list[-1] == "a" and first(vars.list) == "b" and len(vars.list) == 2`,
		`vars.n > 5 ? true : false`,
		`get("vars.none", "d") == "d" and get("vars.map.x", 0) == 2`,
		`vars["n"] == 7 and vars.map[vars.list[1] == "a" ? "x" : "y"] == 2`,
		`facts.local.rack == 7 and facts.memory.total >= 4 * 1024 * 1024 * 1024`,
		`vars?.n == 7 and vars.map?.x == 2`,
	} {
		c := load(t, vars+"-- groups/web/a.yaml --\n- file: /etc/a\n  when: '"+expression+"'\n")
		if len(c.Entries) != 1 {
			t.Errorf("false: %s", expression)
		}
	}
}

// broken is a resource whose module has a mistake.
type broken struct {
	file `yaml:",inline"`
}

func (b *broken) Validate() error { panic("index out of range") }

func TestAPanicOfAModuleIsAnErrorOfTheResource(t *testing.T) {
	in := input(repository(t, "-- groups/web/a.yaml --\n- file: /etc/a\n"))
	in.Modules = []resource.Module{kind{"file", func() resource.Resource { return &broken{} }}}
	_, err := catalog.Load(in)
	want := "groups/web/a.yaml:1:3: file:/etc/a: the module failed on it, which is a mistake in trued: index out of range"
	if err == nil || err.Error() != want {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
}

func TestVarsThatLookLikeTemplatesAreWarnedOf(t *testing.T) {
	c := load(t, "-- groups/web/group.yaml --\nvars:\n  url: https://{{ vars.domain }}/\n-- groups/web/a.yaml --\n- file: /etc/a\n")
	want := "groups/web/group.yaml:2:3: vars are taken as they are: {{ }} in one is not executed"
	if len(c.Warnings) != 1 || c.Warnings[0] != want {
		t.Errorf("warnings %q", c.Warnings)
	}
}
