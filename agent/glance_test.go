package agent

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/health"
)

// slow is a network of which each answers after a time of its own.
type slow map[string]time.Duration

func (s slow) Reach(ctx context.Context, heard func(string)) {
	began := time.Now()
	for len(s) > 0 {
		next, after := "", time.Duration(0)
		for what, takes := range s {
			if next == "" || takes < after {
				next, after = what, takes
			}
		}
		select {
		case <-time.After(time.Until(began.Add(after))):
			heard(next)
			delete(s, next)
		case <-ctx.Done():
			return
		}
	}
}

func (slow) Prove(context.Context, []catalog.Probe, []string, time.Time) []health.Failure { return nil }

func (slow) Look(context.Context, []catalog.Probe, []string, bool) []health.Report { return nil }

// A repair waits for what is known to answer, and for no gateway that answers nobody;
// what answers while it is made is missed afterwards as well.
func TestARepairWaitsForWhatIsKnownToAnswer(t *testing.T) {
	const repair = 50 * time.Millisecond
	for name, c := range map[string]struct {
		network slow
		known   []string
		waits   time.Duration
		found   []string
	}{
		"nothing is known":           {slow{"gateway": time.Millisecond, "resolver": time.Hour}, nil, glanceWait, []string{"gateway"}},
		"nothing is known, all do":   {slow{"gateway": time.Millisecond, "resolver": 9 * time.Millisecond}, nil, 9 * time.Millisecond, []string{"gateway", "resolver"}},
		"a gateway answers nobody":   {slow{"gateway": time.Hour, "resolver": 9 * time.Millisecond}, []string{"resolver"}, 9 * time.Millisecond, []string{"resolver"}},
		"nobody answers":             {slow{"gateway": time.Hour, "resolver": time.Hour}, []string{}, 0, []string{}},
		"one answers again":          {slow{"gateway": time.Millisecond, "resolver": 20 * time.Millisecond}, []string{}, 0, []string{"gateway", "resolver"}},
		"what answered does no more": {slow{"gateway": time.Hour}, []string{"gateway"}, glanceWait, []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				g := glanceBy(t.Context(), c.network)
				g.await(c.known)
				if took := time.Since(began); took != c.waits {
					t.Errorf("the repair waits for %s, want %s", took, c.waits)
				}
				time.Sleep(repair)
				synctest.Wait()
				found := g.end()
				if found == nil || !slices.Equal(found, c.found) {
					t.Errorf("%v have answered, want %v", found, c.found)
				}
			})
		})
	}
}
