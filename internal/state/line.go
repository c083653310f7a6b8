package state

import (
	"bytes"
	"encoding/json"
)

// line returns the record as a line of the ledger.
func (r Record) line() ([]byte, error) {
	events := r.Events
	r.Events = nil
	head, err := json.Marshal(r)
	if err != nil || len(events) == 0 {
		return append(head, '\n'), err
	}
	return withEvents(append(head[:len(head)-1], `,"events":`...), events)
}

// line returns the run as its file holds it.
func (p Past) line() ([]byte, error) {
	run, err := json.Marshal(p.Run)
	if err != nil {
		return nil, err
	}
	return withEvents(append(append([]byte(`{"run":`), run...), `,"events":`...), p.Events)
}

// withEvents ends an object and its line with the events. They were encoded
// already; the encoder would go through each of them once more, which is most of
// what writing a large run costs.
func withEvents(head []byte, events []json.RawMessage) ([]byte, error) {
	n := len(head) + len("[]}\n") + len(events)
	for _, e := range events {
		n += len(e)
	}
	line := bytes.NewBuffer(append(make([]byte, 0, n), head...))
	line.WriteByte('[')
	for i, e := range events {
		if i > 0 {
			line.WriteByte(',')
		}
		if bytes.IndexByte(e, '\n') < 0 {
			line.Write(e)
		} else if err := json.Compact(line, e); err != nil {
			return nil, err
		}
	}
	line.WriteString("]}\n")
	return line.Bytes(), nil
}
