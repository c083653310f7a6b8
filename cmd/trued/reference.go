package main

import (
	"encoding"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/modules"
)

// generateCommand makes documents from the commands and types themselves.
func (a *app) generateCommand() *cobra.Command {
	c := &cobra.Command{
		Use:    "generate",
		Short:  "Make documents that are kept or packaged beside the program",
		Hidden: true,
	}
	c.AddCommand(a.referenceCommand())
	c.AddCommand(generators()...)
	return c
}

//go:generate ../../.ci/reference

func (a *app) referenceCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reference",
		Short: "What each kind takes, as Markdown",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return writeReference(a.out)
		},
	}
}

// writeReference writes a table of attributes for each kind, read off the types
// that manifests are decoded into.
func writeReference(w io.Writer) error {
	p := printer{w: w}
	for _, m := range modules.All(host.New("/", host.Options{})) {
		p.kind(m)
	}
	p.everyKind()
	return p.err
}

// kind writes what one kind takes, and an example where it has one.
func (p *printer) kind(m resource.Module) {
	p.line("### %s\n", m.Kind())
	p.line("| key | takes | |\n| --- | --- | --- |")
	p.attributes(reflect.TypeOf(m.New()).Elem())
	p.line("")
	if e, ok := m.(resource.Exemplar); ok {
		p.line("```yaml\n%s```\n", e.Example())
	}
}

// everyKind writes the keys that all kinds take.
func (p *printer) everyKind() {
	p.line("### Every kind\n")
	p.line("| key | takes | |\n| --- | --- | --- |")
	for _, row := range [][3]string{
		{"when", "expression", "over facts and vars; false: not on this host"},
		{"for_each", "list, map or expression", "one resource for each; `each.key` and `each.value` in every string"},
		{"override", "true, false", "true: lay these attributes over those of the included resource of the same address"},
		{"raw", "true, false", "true: strings are taken as they are, `{{ }}` included"},
	} {
		p.line("| `%s` | %s | %s |", row[0], row[1], row[2])
	}
	p.attributes(reflect.TypeFor[resource.Meta]())
}

// attributes writes a row for each key of a type, those of every kind left out.
func (p *printer) attributes(t reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case f.Type == reflect.TypeFor[resource.Meta]():
		case options == "inline":
			p.attributes(f.Type)
		case f.IsExported() && key != "" && key != "-":
			p.line("| `%s` | %s | %s |", key, takes(f.Type), strings.ReplaceAll(f.Tag.Get("doc"), "|", "\\|"))
		}
	}
}

// takes names a type as an author of manifests knows it.
func takes(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[resource.Mode]():
		return "mode"
	case t == reflect.TypeFor[time.Duration]():
		return "time"
	case t.Kind() == reflect.Pointer:
		return takes(t.Elem())
	case reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return "text"
	}
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true, false"
	case reflect.Slice:
		return "list"
	case reflect.Map, reflect.Struct:
		return "map"
	case reflect.Int, reflect.Int64, reflect.Uint32:
		return "number"
	default:
		return fmt.Sprint(t.Kind())
	}
}
