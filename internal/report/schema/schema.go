// Package schema makes the JSON Schema of the events from their types. It is for
// those who build and test the program, and no part of it: what it takes to make
// a schema would be paid for at each start.
package schema

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"

	"trued.dev/trued/internal/report"
)

// Make returns the schema.
func Make() ([]byte, error) {
	r := jsonschema.Reflector{
		RequiredFromJSONSchemaTags: true,
		ExpandedStruct:             true,
		// A later version of the agent may add keys.
		AllowAdditionalProperties: true,
		Anonymous:                 true,
		Mapper:                    words,
	}
	s := r.Reflect(report.Event{})
	s.ID, s.Title = jsonschema.ID(report.SchemaID), "Event of trued"
	s.Description = "One thing that happened on a host, as one flat JSON object."
	version, _ := s.Properties.Get("schema_version")
	version.Const = report.SchemaVersion
	s.AllOf = []*jsonschema.Schema{
		when("run.*", "run_id"),
		when(report.RunFinished, "trued.counts.total", "trued.counts.in_order", "trued.counts.failed", "trued.exit_code", "trued.duration_ms"),
		when("resource.*", "run_id", "trued.resource", "trued.resource.kind", "trued.outcome"),
		when(report.ResourceFailed, "error.message", "error.type"),
		when(report.ResourceDrifted, "trued.cause"),
	}
	out, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("cannot make schema: %w", err)
	}
	return append(out, '\n'), nil
}

// words lists the words that there are for types that are words.
func words(t reflect.Type) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "string"}
	switch t {
	case reflect.TypeFor[report.Type]():
		for _, w := range report.Types() {
			s.Enum = append(s.Enum, w)
		}
	case reflect.TypeFor[report.Severity]():
		for _, w := range report.Severities() {
			s.Enum = append(s.Enum, w)
		}
	case reflect.TypeFor[report.Outcome]():
		for _, w := range report.Outcomes() {
			s.Enum = append(s.Enum, w)
		}
	default:
		return nil
	}
	return s
}

// when says which keys events of a type, or of all types with a prefix, have.
func when(t report.Type, keys ...string) *jsonschema.Schema {
	is := &jsonschema.Schema{Const: t}
	if prefix, ok := strings.CutSuffix(string(t), "*"); ok {
		is = &jsonschema.Schema{Pattern: "^" + prefix}
	}
	properties := jsonschema.NewProperties()
	properties.Set("type", is)
	return &jsonschema.Schema{
		If:   &jsonschema.Schema{Properties: properties},
		Then: &jsonschema.Schema{Required: keys},
	}
}
