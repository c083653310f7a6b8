package repository

import (
	"context"
	"strconv"
	"time"

	"trued.dev/trued/internal/resource"
)

// witness is what the resource's own files, and all others that a repository can
// be in, look like now, and until when there is no more to say of its keys.
func (r *Resource) witness(now time.Time) (resource.Witness, error) {
	names, err := r.form().reads()
	if err != nil {
		return nil, err
	}
	for _, f := range r.files() {
		names = append(names, f.Path)
	}
	seen := r.host.WitnessNamed(names...)
	if seen == nil {
		return nil, nil
	}
	if next := r.Keyring.next(now); !next.IsZero() {
		seen = strconv.AppendInt(seen, next.Unix(), 10)
	}
	return seen, nil
}

// Holds implements resource.Examiner.
func (m module) Holds(_ context.Context, _ string, w resource.Witness) bool {
	rest, holds := m.host.HoldsNamed(w)
	if !holds || len(rest) == 0 {
		return holds
	}
	until, err := strconv.ParseInt(string(rest), 10, 64)
	return err == nil && time.Now().Unix() < until
}
