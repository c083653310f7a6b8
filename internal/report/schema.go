package report

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"
)

//go:generate go run ./schemagen ../../packaging/schema/event.schema.json

// SchemaID is the address that the events' schema goes by.
const SchemaID = "https://trued.dev/schema/event-" + SchemaVersion + ".json"

// Schema returns the JSON Schema of the events, made from their types.
func Schema() ([]byte, error) {
	r := jsonschema.Reflector{
		RequiredFromJSONSchemaTags: true,
		ExpandedStruct:             true,
		// A later version of the agent may add keys.
		AllowAdditionalProperties: true,
		Anonymous:                 true,
		Mapper:                    words,
	}
	s := r.Reflect(Event{})
	s.ID, s.Title = jsonschema.ID(SchemaID), "Event of trued"
	s.Description = "One thing that happened on a host, as one flat JSON object."
	version, _ := s.Properties.Get("schema_version")
	version.Const = SchemaVersion
	s.AllOf = []*jsonschema.Schema{
		when("run.*", "run_id"),
		when(RunFinished, "trued.counts.total", "trued.counts.in_order", "trued.counts.failed", "trued.exit_code", "trued.duration_ms"),
		when("resource.*", "run_id", "trued.resource", "trued.resource.kind", "trued.outcome"),
		when(ResourceFailed, "error.message", "error.type"),
		when(ResourceDrifted, "trued.cause"),
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
	case reflect.TypeFor[Type]():
		for _, w := range Types() {
			s.Enum = append(s.Enum, w)
		}
	case reflect.TypeFor[Severity]():
		for _, w := range Severities() {
			s.Enum = append(s.Enum, w)
		}
	case reflect.TypeFor[Outcome]():
		for _, w := range Outcomes() {
			s.Enum = append(s.Enum, w)
		}
	default:
		return nil
	}
	return s
}

// when says which keys events of a type, or of all types with a prefix, have.
func when(t Type, keys ...string) *jsonschema.Schema {
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
