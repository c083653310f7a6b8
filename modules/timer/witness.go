package timer

import (
	"context"
	"encoding/json"

	"trued.dev/trued/internal/resource"
)

// A sight is what a Check of a timer rests on: what was seen of both units, and
// that there is a user.
type sight struct {
	User           string
	Timer, Service resource.Witness
}

// witness is nil where one of the units has none.
func (s sight) witness() resource.Witness {
	if s.Timer == nil || s.Service == nil {
		return nil
	}
	w, err := json.Marshal(s)
	if err != nil {
		return nil
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
	var s sight
	if json.Unmarshal(w, &s) != nil {
		return false
	}
	if s.User != "" {
		if _, err := m.host.UserID(s.User); err != nil {
			return false
		}
	}
	return m.Manager.Holds(ctx, name+timerSuffix, s.Timer) && m.Manager.Holds(ctx, name+serviceSuffix, s.Service)
}
