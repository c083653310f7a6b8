package state

import (
	"encoding/json"
	"testing"
)

func TestALineIsWhatTheEncoderWouldWrite(t *testing.T) {
	for _, r := range append(sample(), Record{Events: []json.RawMessage{[]byte(`{"a":"\u003c\n"}`), []byte(`2`)}}, Record{}) {
		want, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.line(); err != nil || string(got) != string(want)+"\n" {
			t.Errorf("the line is %s, error %v; want %s", got, err, want)
		}
	}
}

func TestARunInTheHistoryIsWhatTheEncoderWouldWrite(t *testing.T) {
	for _, events := range [][]json.RawMessage{{[]byte(`{"n":1}`), []byte(`{"n":2}`)}, {}} {
		p := Past{Run: Run{ID: "r", Summary: "<&>"}, Events: events}
		want, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.line(); err != nil || string(got) != string(want)+"\n" {
			t.Errorf("the line is %s, error %v; want %s", got, err, want)
		}
	}
}

func TestAnEventOnSeveralLinesStaysInItsLine(t *testing.T) {
	got, err := Record{Events: []json.RawMessage{[]byte("{\n \"n\": 1\n}")}}.line()
	if want := `{"seq":0,"events":[{"n":1}]}` + "\n"; err != nil || string(got) != want {
		t.Errorf("the line is %q, error %v", got, err)
	}
}
