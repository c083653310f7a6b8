package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/plan"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
)

// An Explanation is all that is known about one resource.
type Explanation struct {
	Resource  resource.Address   `json:"resource"`
	Verdict   plan.Verdict       `json:"verdict"`
	Why       string             `json:"why,omitempty"`
	Origin    resource.Origin    `json:"origin"`
	Overrides []resource.Origin  `json:"overrides,omitempty"`
	Each      string             `json:"each,omitempty"`
	Uses      []catalog.Use      `json:"uses,omitempty"`
	Claims    []resource.Claim   `json:"claims"`
	After     []resource.Address `json:"after,omitempty"`
	Feeds     []Effect           `json:"feeds,omitempty"`
	Owed      []state.Owed       `json:"owed,omitempty"`
	// Watches is what the daemon watches of it; what is not watched is found by
	// full runs.
	Watches []resource.Watch `json:"watches,omitempty"`
	Prior   resource.Prior   `json:"prior,omitempty"`
	Diff    resource.Diff    `json:"diff,omitempty"`
	// Last are its last changes, newest first.
	Last []string `json:"last,omitempty"`
}

// An Effect is what a change of the resource makes another do.
type Effect struct {
	Target   resource.Address  `json:"target"`
	Reaction resource.Reaction `json:"reaction"`
}

// Explain looks at the host and tells about one resource. It changes nothing.
func (a *Agent) Explain(ctx context.Context, address string) (*Explanation, error) {
	addr, err := resource.ParseAddress(address)
	if err != nil {
		return nil, err
	}
	r, err := a.newRun(Request{Trigger: "explain"})
	if err != nil {
		return nil, err
	}
	defer r.close()
	r.fetch(ctx)
	entries := r.load(ctx)
	p, err := r.plan(ctx, entries)
	if err != nil {
		return nil, err
	}
	for _, s := range p.Steps {
		if s.Address == addr {
			e := explain(p, s, entries)
			e.Last, err = a.lastChanges(addr)
			return e, err
		}
	}
	return nil, a.notThere(r, addr)
}

func explain(p *plan.Plan, s *plan.Step, entries []catalog.Entry) *Explanation {
	e := &Explanation{
		Resource: s.Address, Verdict: s.Verdict, Why: s.Why, Origin: s.Origin,
		Owed: s.Owed, Prior: s.View.Prior, Diff: s.Finding.Diff, Claims: s.View.Held,
	}
	if s.Err != nil {
		e.Why = s.Err.Error()
	}
	if s.Resource != nil && !s.Prune {
		e.Claims = s.Resource.Claims()
		if w, ok := s.Resource.(resource.Watched); ok {
			e.Watches = w.Watches()
		}
	}
	for _, i := range s.After {
		e.After = append(e.After, p.Steps[i].Address)
	}
	for _, f := range s.Feeds {
		e.Feeds = append(e.Feeds, Effect{p.Steps[f.To].Address, f.Reaction})
	}
	for _, entry := range entries {
		if entry.Address == s.Address {
			e.Overrides, e.Each, e.Uses = entry.Overrides, entry.Each, entry.Uses
		}
	}
	return e
}

// notThere says why a resource is not in the catalog, where that is known.
func (a *Agent) notThere(r *run, addr resource.Address) error {
	for _, s := range r.sources {
		if s.catalog == nil {
			continue
		}
		for _, absent := range s.catalog.Absences {
			if absent.Address == addr {
				return fmt.Errorf("%s is written at %s and not for this host: %s", addr, absent.Origin, absent.Why)
			}
		}
	}
	return fmt.Errorf("%s is not in this host's catalog, and trued does not hold it", addr)
}

// lastChanges searches the history for a resource.
func (a *Agent) lastChanges(addr resource.Address) ([]string, error) {
	const shown = 5
	past, err := a.store.History(200)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, p := range past {
		for _, raw := range p.Events {
			var e report.Event
			if json.Unmarshal(raw, &e) == nil && e.Resource == addr.String() && len(lines) < shown {
				lines = append(lines, fmt.Sprintf("%s %s", e.Time[:19], e.Message))
			}
		}
	}
	return lines, nil
}

// History returns the last runs that changed or told something, newest first.
func (a *Agent) History(limit int) ([]state.Past, error) { return a.store.History(limit) }

// PastRun returns the run whose id ends or begins with id.
func (a *Agent) PastRun(id string) (*state.Past, error) {
	past, err := a.store.History(1 << 20)
	if err != nil {
		return nil, err
	}
	for _, p := range past {
		if strings.HasSuffix(p.Run.ID, id) || strings.HasPrefix(p.Run.ID, id) {
			return &p, nil
		}
	}
	return nil, fmt.Errorf("no run %q in the history: see 'trued history'", id)
}
