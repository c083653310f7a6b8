// Package reporttest holds events against their schema, for the tests of every
// part that makes or carries some.
package reporttest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/report/schema"
)

// Valid fails the test unless line is one event as the schema has it, with no
// key that the schema does not name.
func Valid(t testing.TB, line []byte) {
	t.Helper()
	if err := Check(line); err != nil {
		t.Errorf("not a valid event: %v\n%s", err, line)
	}
}

// ValidLines fails the test unless each line that r holds is a valid event, the
// last one ends like the others, and there is at least one. It returns them.
func ValidLines(t testing.TB, r io.Reader) []report.Event {
	t.Helper()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) == 0 || data[len(data)-1] != '\n' {
		t.Fatalf("events do not end with a newline: %q", data)
	}
	var events []report.Event
	for line := range bytes.Lines(data) {
		Valid(t, line)
		var e report.Event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

// ValidEvent fails the test unless e is valid once it is JSON, and returns that.
func ValidEvent(t testing.TB, e report.Event) []byte {
	t.Helper()
	line, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	Valid(t, line)
	return line
}

// Check says what is wrong with an event.
func Check(line []byte) error {
	compiled, err := compiledSchema()
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
	if err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	strict := json.NewDecoder(bytes.NewReader(line))
	strict.DisallowUnknownFields()
	return errors.Join(compiled.Validate(value), strict.Decode(new(report.Event)))
}

var compiledSchema = sync.OnceValues(func() (*jsonschema.Schema, error) {
	made, err := schema.Make()
	if err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(made))
	if err != nil {
		return nil, fmt.Errorf("the schema is not JSON: %w", err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(report.SchemaID, doc); err != nil {
		return nil, err
	}
	return c.Compile(report.SchemaID)
})
