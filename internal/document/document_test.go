package document_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"trued.dev/trued/internal/document"
	"trued.dev/trued/internal/resource"
)

func parse(t *testing.T, text string) *document.Node {
	t.Helper()
	docs, problems := document.Parse([]byte(text))
	if len(problems) > 0 || len(docs) != 1 {
		t.Fatalf("%d documents, problems %v", len(docs), problems)
	}
	return docs[0]
}

func TestANumberThatWouldNotPrintAsItIsWrittenIsText(t *testing.T) {
	got := parse(t, `
int: 12
negative: -3
octal: 0644
octal12: 0o644
hex: 0x1f
float: 1.5
version: 1.10
long: 18446744073709551616
exponent: 1e3
infinite: .inf
grouped: 1_000
bool: true
word: yes
date: 2024-01-01
quoted: "12"
none:
`).Any()
	want := map[string]any{
		"int": 12, "negative": -3, "octal": "0644", "octal12": "0o644", "hex": "0x1f", "float": 1.5,
		"version": "1.10", "long": "18446744073709551616", "exponent": "1e3", "infinite": ".inf",
		"grouped": "1_000", "bool": true, "word": "yes", "date": "2024-01-01", "quoted": "12", "none": nil,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

type inner struct {
	A int    `yaml:"a"`
	B string `yaml:"b"`
}

type outer struct {
	resource.Meta `yaml:",inline"`
	Text          string            `yaml:"text"`
	Yes           *bool             `yaml:"yes"`
	Count         uint8             `yaml:"count"`
	Share         float64           `yaml:"share"`
	Mode          resource.Mode     `yaml:"mode"`
	List          []inner           `yaml:"list"`
	Map           map[string]string `yaml:"map"`
	Inner         *inner            `yaml:"inner"`
	Any           any               `yaml:"any"`
	hidden        int               //nolint:unused // must not be a key
	NoKey         string
}

func TestADocumentIsDecodedIntoTypedFields(t *testing.T) {
	var got outer
	problems := document.NewDecoder().Decode(parse(t, `
text: 0o17
yes: false
count: 200
share: 2
mode: 0755
list: [{a: 1, b: x}, {b: 2}]
map: {k: v, 10: 20}
inner: {a: -4}
any: {x: [1, null]}
timeout: 1m30s
requires: [a]
prune: false
`), &got)
	no := false
	want := outer{
		Text: "0o17", Yes: &no, Count: 200, Share: 2, Mode: resource.NewMode(0o755),
		List: []inner{{1, "x"}, {0, "2"}}, Map: map[string]string{"k": "v", "10": "20"},
		Inner: &inner{A: -4}, Any: map[string]any{"x": []any{1, nil}},
	}
	want.Timeout, want.Requires, want.Prune = 90*time.Second, []string{"a"}, &no
	if len(problems) > 0 {
		t.Error(problems)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(outer{}, resource.Mode{})); diff != "" {
		t.Error(diff)
	}
}

func TestWhatDoesNotFitIsReportedWhereItIs(t *testing.T) {
	for text, want := range map[string]string{
		"count: 256":               `1:8: count: the number 256 where a whole number of 0 or more is wanted`,
		"count: 012":               `1:8: count: the number 012 where a whole number of 0 or more is wanted`,
		"count: 1.0":               `1:8: count: the number 1.0 where a whole number of 0 or more is wanted`,
		`count: "1"`:               `1:8: count: "1" where a whole number of 0 or more is wanted`,
		"share: much":              `1:8: share: "much" where a number is wanted`,
		"text:":                    `1:6: text: no value: give one, or leave the key out`,
		"list: [{a: x}]":           `1:12: a: "x" where a whole number is wanted`,
		"list: [{c: x}]":           `1:9: unknown key "c"`,
		"list: x":                  `1:7: list: "x" where a list is wanted: write [x]`,
		"map: {a: [1]}":            `1:10: a list where text is wanted`,
		"inner: 3":                 `1:8: inner: the number 3 where a map is wanted`,
		"timeout: soon":            `1:10: timeout: "soon" is no duration: write a number and a unit, such as 90s, 5m or 2h`,
		"NoKey: x":                 `1:1: unknown key "NoKey"`,
		"hidden: 1":                `1:1: unknown key "hidden"`,
		"txet: x":                  `1:1: unknown key "txet": did you mean "text"?`,
		"- a":                      `1:1: a list where a map is wanted`,
		"yes: \"no\"":              `1:6: yes: "no" where true or false is wanted: write false`,
		"prune: maybe\nignore: no": `1:8: prune: "maybe" where true or false is wanted; 2:9: ignore: "no" where a list is wanted: write [no]`,
	} {
		var into outer
		var got []string
		for _, p := range document.NewDecoder().Decode(parse(t, text), &into) {
			got = append(got, p.Error())
		}
		if s := strings.Join(got, "; "); s != want {
			t.Errorf("%q\n got %s\nwant %s", text, s, want)
		}
	}
}

func TestWhatIsNoProperDocumentIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"a: \xff":             `1:4: not a text file in UTF-8`,
		"a: b\nc: \x00":       `2:4: not a text file in UTF-8`,
		"a: 1\nb: 2\na: 3":    `3:1: key "a" is written twice, first in line 1`,
		"? [a]\n: b":          `1:3: a key must be plain text`,
		"a: !ruby/object x":   `1:4: unknown tag !ruby/object`,
		"<<: 3\na: b":         `1:5: << takes a map or a list of maps`,
		"a: [1, 2":            `1:1: malformed YAML: did not find expected ',' or ']'`,
		"a: b: c":             `1:1: malformed YAML: mapping values are not allowed in this context`,
		"\ta: b":              `1:2: malformed YAML: found character that cannot start any token (indent with spaces, not tabs)`,
		"a: *b":               `1:1: malformed YAML: unknown anchor 'b' referenced`,
		"a: !!binary \"###\"": `1:4: !!binary must be base64`,
	} {
		_, problems := document.Parse([]byte(text))
		if len(problems) != 1 || problems[0].Error() != want {
			t.Errorf("%q\n got %v\nwant %s", text, problems, want)
		}
	}
}

func TestNearestFindsTheWordThatWasMeant(t *testing.T) {
	among := []string{"content", "mode", "owner", "group", "validate"}
	for word, want := range map[string]string{
		"contnet": "content", "mdoe": "mode", "Mode": "mode", "grp": "group", "valdate": "validate",
		"xyz": "", "": "", "mode": "",
	} {
		if got := document.Nearest(word, among); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

func TestDataIsTheSameAfterBeingWrittenAndRead(t *testing.T) {
	want := map[string]any{"a": []any{1, 1.5, "x", true, nil, "12", "0644"}, "b": map[string]any{"c": "multi\nline\n"}}
	text, err := document.Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(any(want), parse(t, text+"\n").Any()); diff != "" {
		t.Error(diff)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"a: 1", "- &a [x]\n- *a", "<<: {a: b}", "---\n---", "? a\n: |\n  b", "a: !!binary aGk=", "\xef\xbb\xbfa"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, problems := document.Parse(data)
		for _, p := range problems {
			if p.Line < 1 || p.Column < 1 || p.Message == "" {
				t.Errorf("problem %+v", p)
			}
		}
		for _, doc := range docs {
			var into outer
			_ = document.NewDecoder().Decode(doc, &into)
			if len(problems) == 0 {
				_ = document.FromAny(doc.Any(), doc)
			}
		}
	})
}
