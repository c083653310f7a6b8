// Package health tells whether the host serves: by the probes that its groups
// name, and by whether it still reaches what it reached before.
//
// It looks and waits, and changes nothing but by what a probe's command does.
// What follows from it is decided elsewhere.
package health

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/host"
)

// A Failure is a probe that was not good in its time.
type Failure struct {
	Probe string `json:"probe"`
	Why   string `json:"why"`
}

func (f Failure) String() string { return f.Probe + ": " + f.Why }

// A Report is what came of one probe.
type Report struct {
	Probe  string `json:"probe"`
	Target string `json:"target"`
	Good   bool   `json:"good"`
	Why    string `json:"why,omitempty"`
	// Took is how long it was until that was known.
	Took time.Duration `json:"took_ns"`
}

// A Prober looks at one host.
type Prober struct {
	host *host.Host
	// looking has, by the probe's name, when the look began that has no answer yet.
	looking sync.Map
}

// New returns what looks at a host that runs.
func New(h *host.Host) *Prober { return &Prober{host: h} }

// Prove waits until all is good, at most until the given time, or until something
// has no time left to become so: then it waits for nothing else. It returns what
// was not good, in the order of the probes. What of the network answered before
// must answer again.
func (p *Prober) Prove(ctx context.Context, probes []catalog.Probe, before []string, until time.Time) []Failure {
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	var failures []Failure
	for _, r := range p.wait(ctx, probes, before, until, enough) {
		if r.Why != "" {
			failures = append(failures, Failure{Probe: r.Probe, Why: r.Why})
		}
	}
	return failures
}

// wait returns what came of each probe, and calls failed as soon as one has no time
// left. One that was good at the last look, and was to be looked at again when ctx
// was done, is neither good nor has a reason.
func (p *Prober) wait(ctx context.Context, probes []catalog.Probe, before []string, until time.Time, failed func()) []Report {
	reports := make([]Report, len(probes), len(probes)+len(before))
	var all sync.WaitGroup
	for i, probe := range probes {
		all.Go(func() {
			if reports[i] = p.waitFor(ctx, probe, until); !reports[i].Good {
				failed()
			}
		})
	}
	var reach []Report
	all.Go(func() {
		reach = p.awaitReach(ctx, before, until)
		if slices.ContainsFunc(reach, func(r Report) bool { return !r.Good }) {
			failed()
		}
	})
	all.Wait()
	return append(reports, reach...)
}

// Look looks once with each probe, or as long as each may take. What of the network
// answers now is good, what answered before and does not any more is bad, and the
// rest is not spoken of.
func (p *Prober) Look(ctx context.Context, probes []catalog.Probe, before []string, wait bool) []Report {
	before = slices.Concat(before, p.reaches(ctx))
	slices.Sort(before)
	before = slices.Compact(before)
	if wait {
		return p.wait(ctx, probes, before, time.Now().Add(time.Hour), func() {})
	}
	once := make([]catalog.Probe, len(probes))
	for i, probe := range probes {
		once[i], once[i].Times = probe, 1
	}
	return p.wait(ctx, once, before, time.Now(), func() {})
}

// waitFor looks until the probe was good so often in a row as it must be, or has no
// time left. It looks at least once.
func (p *Prober) waitFor(ctx context.Context, probe catalog.Probe, until time.Time) Report {
	began := time.Now()
	deadline := began.Add(probe.Within)
	if until.Before(deadline) {
		deadline = until
	}
	r := Report{Probe: probe.Name, Target: probe.Target()}
	row, last := 0, ""
	for {
		same, err := p.look(ctx, probe)
		if ctx.Err() != nil {
			return r // what that was says nothing
		}
		again := err == nil && row > 0 && same != last
		if last = same; again {
			row, r.Why = 0, "it was started again in between"
		} else if err == nil {
			row++
		} else {
			row, r.Why = 0, err.Error()
		}
		r.Took = time.Since(began)
		switch {
		case row >= probe.Times:
			r.Good, r.Why = true, ""
			return r
		case !time.Now().Before(deadline):
			if r.Why == "" {
				r.Why = fmt.Sprintf("there was no time for %d looks in a row", probe.Times)
			}
			return r
		}
		select {
		case <-ctx.Done():
			if row > 0 {
				r.Why = ""
			}
			return r
		case <-time.After(min(probe.Every, time.Until(deadline))):
		}
	}
}

// lookTime bounds one look.
const lookTime = 10 * time.Second

// lastWord is how long what was told to stop has to say what it has seen: a command is
// killed five seconds after that.
const lastWord = 10 * time.Second

// look looks once. What it returns beside the error stands for what it saw: when
// that is another the next time, it was not the same that was good twice.
func (p *Prober) look(ctx context.Context, probe catalog.Probe) (same string, err error) {
	now := time.Now()
	if since, looks := p.looking.LoadOrStore(probe.Name, now); looks && now.Sub(since.(time.Time)) > lookTime+lastWord {
		// One more would be one more that nobody can end.
		return "", fmt.Errorf("a look that was begun at %s has no answer yet", since.(time.Time).Format(time.TimeOnly))
	}
	return inTime(ctx, lookTime, lastWord, func(ctx context.Context) (string, error) {
		defer p.looking.CompareAndDelete(probe.Name, now)
		return p.see(ctx, probe)
	})
}

// inTime sees something, and does not wait for what cannot be told to stop, such as to
// read a file of a server that is gone.
func inTime(ctx context.Context, limit, last time.Duration, see func(context.Context) (string, error)) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	type sight struct {
		same string
		err  error
	}
	seen := make(chan sight, 1)
	go func() {
		defer cancel()
		same, err := see(ctx)
		seen <- sight{same, err}
	}()
	<-ctx.Done()
	select {
	case s := <-seen:
		return s.same, s.err
	case <-time.After(last):
		return "", fmt.Errorf("no answer within %s", limit)
	}
}

func (p *Prober) see(ctx context.Context, probe catalog.Probe) (same string, err error) {
	switch {
	case probe.HTTP != "":
		return "", p.http(ctx, probe)
	case probe.TCP != "":
		return "", p.tcp(ctx, probe)
	case probe.Unit != "":
		return p.unit(ctx, probe)
	case probe.File != "":
		return "", p.file(probe)
	default:
		return "", p.command(ctx, probe)
	}
}
