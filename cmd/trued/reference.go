package main

import (
	"fmt"
	"io"
	"reflect"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/modules"
)

// writeReference prints what each kind takes as Markdown, from the tags of the
// values that manifests are decoded into.
func writeReference(w io.Writer) error {
	p := printer{w: w}
	for _, m := range modules.All(host.New("/", host.Options{})) {
		p.line("#### `%s`\n", m.Kind())
		p.line("| key | type | meaning |\n| --- | --- | --- |")
		p.keys(reflect.TypeOf(m.New()).Elem())
		p.line("")
	}
	p.line("#### Every kind\n")
	p.line("| key | type | meaning |\n| --- | --- | --- |")
	p.keys(reflect.TypeFor[loadingKeys]())
	p.keys(reflect.TypeFor[resource.Meta]())
	return p.err
}

// loadingKeys are used up when a manifest is loaded: no value has them.
type loadingKeys struct {
	When     string `yaml:"when" doc:"an expression over facts and vars; false: not for this host"`
	ForEach  any    `yaml:"for_each" doc:"a list or map, or an expression that gives one; each.key and each.value are usable in every string"`
	Override bool   `yaml:"override" doc:"true: lay these keys over those of the included resource with the same address"`
	Raw      bool   `yaml:"raw" doc:"true: the strings are no templates"`
}

func (p *printer) keys(t reflect.Type) {
	for f := range ownFields(t) {
		key, doc := f.Tag.Get("yaml"), f.Tag.Get("doc")
		if doc == "" || key == "-" {
			continue
		}
		p.line("| `%s` | %s | %s |", key, typeWord(f.Type), strings.ReplaceAll(doc, "|", `\|`))
	}
}

// ownFields yields the exported fields that are a struct's own.
func ownFields(t reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && !f.Anonymous && !yield(f) {
				return
			}
		}
	}
}

// typeWord says what an author writes for a type.
func typeWord(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t.String() == "time.Duration":
		return "duration"
	case t == reflect.TypeFor[resource.Mode]():
		return "mode"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true, false"
	case reflect.Slice:
		return "list"
	case reflect.Map:
		return "map"
	case reflect.Int, reflect.Int64:
		return "number"
	case reflect.Interface:
		return "list, map, string"
	}
	return "string"
}

// between replaces what stands between two marks of a page.
func between(page, name, text string) (string, error) {
	begin, end := fmt.Sprintf("<!-- %s -->\n", name), fmt.Sprintf("<!-- end of %s -->", name)
	before, rest, ok := strings.Cut(page, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return "", fmt.Errorf("the page has no marks for %s", name)
	}
	return before + begin + text + end + after, nil
}
