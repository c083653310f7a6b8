package state

import (
	"encoding/json"
	"fmt"
	"testing"

	"trued.dev/trued/internal/resource"
)

// What every command reads at its start: the state of a host with many files.
func BenchmarkReadSnapshot(b *testing.B) {
	snap := newSnapshot()
	for i := range 1000 {
		name := fmt.Sprintf("/srv/d%02d/f%03d", i%50, i)
		snap.Inventory[resource.Address{Kind: "file", Name: name}] = Entry{
			Source: "infra", Claims: []resource.Claim{resource.Path(name)}, Place: i,
			Prior:  resource.Prior{resource.Path(name): json.RawMessage(`{"existed":false}`)},
			Digest: fmt.Sprintf("%064x", i),
		}
	}
	data, err := json.MarshalIndent(snap, "", " ")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseSnapshot(data); err != nil {
			b.Fatal(err)
		}
	}
}
