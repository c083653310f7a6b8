package timer

import (
	"context"
	"encoding/binary"

	"trued.dev/trued/internal/resource"
)

// joined is the witness of a timer: the name of its user, who must be there, and
// the witnesses of both units. It is nil where one of them is.
func joined(user string, timer, service resource.Witness) resource.Witness {
	if timer == nil || service == nil {
		return nil
	}
	var w resource.Witness
	for _, part := range []string{user, string(timer), string(service)} {
		w = append(binary.AppendUvarint(w, uint64(len(part))), part...)
	}
	return w
}

// Foresee implements resource.Foreseer.
func (m *module) Foresee(ctx context.Context, names []string) {
	var all []string
	for _, name := range names {
		all = append(all, name+timerSuffix, name+serviceSuffix)
	}
	m.Manager.Foresee(ctx, all)
}

// Holds implements resource.Examiner.
func (m *module) Holds(ctx context.Context, name string, w resource.Witness) bool {
	var parts [3]resource.Witness
	for i := range parts {
		n, used := binary.Uvarint(w)
		if used <= 0 {
			return false
		}
		w = w[used:]
		if n > uint64(len(w)) {
			return false
		}
		parts[i], w = w[:n], w[n:]
	}
	if user := string(parts[0]); user != "" {
		if _, err := m.host.UserID(user); err != nil {
			return false
		}
	}
	return len(w) == 0 && m.Manager.Holds(ctx, name+timerSuffix, parts[1]) && m.Manager.Holds(ctx, name+serviceSuffix, parts[2])
}
