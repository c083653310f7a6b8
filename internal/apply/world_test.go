package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/plan"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
	"trued.dev/trued/internal/window"
)

// A world is a host that is a map, and remembers what was done to it.
type world struct {
	values map[string]string
	log    []string
	// broken names things that cannot be set.
	broken map[string]bool
	// crashAt ends the process, as it were, at the n-th point: there is one
	// before each act and one after it.
	crashAt int
	points  int
	// boot is the number of the boot, and clock the time since it. started and
	// read say of services when they were started in this boot, and when their
	// own change was read.
	boot          int
	clock         uint64
	started, read map[string]uint64
}

type crash struct{}

func newWorld() *world {
	return &world{
		values: map[string]string{}, broken: map[string]bool{},
		started: map[string]uint64{}, read: map[string]uint64{},
	}
}

// point is where the process may die. Nothing is done any more once it is dead,
// whoever recovers.
func (w *world) point() {
	if w.points++; w.crashAt > 0 && w.points >= w.crashAt {
		panic(crash{})
	}
}

// act does one thing that the outside can see.
func (w *world) act(do func(), format string, args ...any) {
	w.point()
	w.log = append(w.log, fmt.Sprintf(format, args...))
	do()
	w.point()
}

func nothing() {}

// moment is the present one; no two are the same.
func (w *world) moment() resource.Moment {
	w.clock++
	if w.broken["clock"] {
		return resource.Moment{}
	}
	return resource.Moment{Boot: fmt.Sprint("boot ", w.boot), Micros: w.clock}
}

// start starts a service.
func (w *world) start(name string) func() {
	return func() {
		w.clock++
		w.started[name] = w.clock
	}
}

// reboot has each service that was started once start again.
func (w *world) reboot() {
	w.boot, w.clock = w.boot+1, 0
	clear(w.read)
	for name := range w.started {
		w.act(w.start(name), "boot starts %s", name)
	}
}

func (w *world) set(name, value string) error {
	if w.broken[name] {
		return errors.New("it is broken")
	}
	w.act(func() {
		if value == "" {
			delete(w.values, name)
		} else {
			w.values[name] = value
		}
	}, "set %s=%s", name, value)
	return nil
}

// kind makes things of one kind.
type kind struct {
	world *world
	name  string
}

func (k kind) Kind() string           { return k.name }
func (k kind) New() resource.Resource { return &thing{world: k.world} }

func (k kind) Absent(h resource.Held) (resource.Resource, error) {
	t := &thing{world: k.world, ID: h.Address.Name, absent: true}
	if raw, ok := h.Prior[claim(h.Address.Name)]; ok {
		if err := json.Unmarshal(raw, &t.Value); err != nil {
			return nil, err
		}
	}
	if k.name == "svc" {
		return &svc{thing: t}, nil
	}
	return t, nil
}

// bulk is a kind that changes in transactions.
type bulk struct{ kind }

func (b *bulk) Transact(ctx context.Context, items []resource.Item) []resource.ItemResult {
	var names []string
	results := make([]resource.ItemResult, len(items))
	for i, it := range items {
		names = append(names, it.Resource.Name())
		_, results[i].Err = it.Resource.Apply(ctx, it.View, it.Found)
	}
	b.world.act(nothing, "transaction of %s", strings.Join(names, " "))
	return results
}

// thing is something with a value.
type thing struct {
	resource.Meta
	ID    string
	Value string
	needs []resource.Need

	world  *world
	absent bool
}

func claim(name string) resource.Claim { return resource.Claim{Space: "thing", Name: name} }

func (t *thing) Name() string             { return t.ID }
func (t *thing) Validate() error          { return nil }
func (t *thing) Claims() []resource.Claim { return []resource.Claim{claim(t.ID)} }
func (t *thing) Needs() []resource.Need   { return t.needs }

func (t *thing) Check(_ context.Context, v resource.View) (resource.Finding, error) {
	now := t.world.values[t.ID]
	found := resource.Finding{Creates: now == ""}
	if v.Prior == nil {
		was, err := json.Marshal(now)
		if err != nil {
			return found, err
		}
		found.Prior = resource.Prior{claim(t.ID): was}
	}
	if now != t.Value {
		found.Diff = resource.Diff{{Field: "value", Old: now, New: t.Value}}
	}
	return found, nil
}

func (t *thing) Apply(context.Context, resource.View, resource.Finding) (resource.Result, error) {
	if t.Value == "panic" {
		panic("a bug")
	}
	return resource.Result{}, t.world.set(t.ID, t.Value)
}

// svc is a thing that restarts when others change.
type svc struct {
	*thing
	On []string
	// starts makes it one that starts when it is made, and that restarts when its
	// own value changes.
	starts bool
	// dies makes it fail the look at the end.
	dies bool
}

func (s *svc) Triggers() []resource.Trigger {
	var ts []resource.Trigger
	for _, on := range s.On {
		ts = append(ts, resource.Trigger{On: on, Reaction: resource.Restart})
	}
	return ts
}

func (s *svc) React(_ context.Context, _ resource.View, owed []resource.Reaction) (resource.Result, error) {
	if s.absent && s.world.values[s.ID] == "" {
		return resource.Result{}, nil // it does not run
	}
	if s.world.broken["restart "+s.ID] {
		return resource.Result{}, errors.New("it does not restart")
	}
	s.world.act(s.world.start(s.ID), "%s %s", owed[0], s.ID)
	return resource.Result{}, nil
}

func (s *svc) Check(ctx context.Context, v resource.View) (resource.Finding, error) {
	found, err := s.thing.Check(ctx, v)
	if s.starts && len(found.Diff) > 0 {
		found.Owes = []resource.Reaction{resource.Restart}
	}
	return found, err
}

func (s *svc) Apply(ctx context.Context, v resource.View, found resource.Finding) (resource.Result, error) {
	if _, err := s.thing.Apply(ctx, v, found); err != nil || !s.starts {
		return resource.Result{}, err
	}
	s.world.act(func() {
		s.world.read[s.ID] = s.world.moment().Micros
		s.world.broken["doubt"] = s.world.broken["doubt"] || s.world.broken["blurs"]
	}, "read %s", s.ID)
	if !found.Creates {
		return resource.Result{}, nil
	}
	s.world.act(s.world.start(s.ID), "start %s", s.ID)
	return resource.Result{Settled: true}, nil
}

func (s *svc) Due(_ context.Context, _ resource.View, debts []resource.Debt) ([]resource.Debt, error) {
	if s.world.broken["doubt"] {
		return debts, nil
	}
	now := s.world.moment()
	at := func(micros uint64) resource.Moment { return resource.Moment{Boot: now.Boot, Micros: micros} }
	start, read := s.world.started[s.ID], s.world.read[s.ID]
	var due []resource.Debt
	for _, d := range debts {
		if d.Own && d.Begun.Before(at(read)) && read < start || !d.Own && start > 0 && d.Placed.Before(at(start)) ||
			!d.Own && start > 0 && !d.Placed.Known() && d.Begun.Known() && d.Begun.Boot != now.Boot {
			continue
		}
		due = append(due, d)
	}
	return due, nil
}

func (s *svc) Leave(context.Context, resource.View) error {
	s.world.act(nothing, "stop %s", s.ID)
	return nil
}

func (s *svc) Stay(context.Context, resource.View) error {
	s.world.act(nothing, "start %s again", s.ID)
	return nil
}

func (s *svc) Confirm(context.Context) error {
	if s.dies {
		return errors.New("it died")
	}
	return nil
}

// lab is a world with a state, which runs what it is given.
type lab struct {
	t     *testing.T
	world *world
	store *state.Store
	now   time.Time
	packs *bulk
	// told are the outcomes that were recorded, in order.
	told []string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	return openLab(t, newWorld(), t.TempDir())
}

func openLab(t *testing.T, w *world, dir string) *lab {
	t.Helper()
	store, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return &lab{t: t, world: w, store: store, packs: &bulk{kind{w, "pack"}}, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

func (l *lab) Record(r state.Record, outcomes []*Outcome) error {
	l.world.point()
	defer l.world.point()
	for _, o := range outcomes {
		if o.Status != InOrder && !o.Told {
			l.told = append(l.told, fmt.Sprintf("%s %s %s", o.Step.Address, o.Status, o.Cause))
		}
	}
	return l.store.Append(r)
}

// modules are the same for all entries of a run, as the engine expects.
func (l *lab) modules() map[string]resource.Module {
	return map[string]resource.Module{
		"thing": kind{l.world, "thing"}, "svc": kind{l.world, "svc"}, "pack": l.packs,
	}
}

func (l *lab) thing(name, value string, requires ...string) catalog.Entry {
	return l.entry("thing", &thing{Meta: resource.Meta{Requires: requires}, ID: name, Value: value, world: l.world})
}

func (l *lab) pack(name, value string, requires ...string) catalog.Entry {
	return l.entry("pack", &thing{Meta: resource.Meta{Requires: requires}, ID: name, Value: value, world: l.world})
}

func (l *lab) svc(name string, on ...string) catalog.Entry {
	return l.entry("svc", &svc{thing: &thing{ID: name, Value: "running", world: l.world}, On: on})
}

// starting is a service that starts when it is made, and restarts when its value
// or one of the others changes.
func (l *lab) starting(name, value string, on ...string) catalog.Entry {
	return l.entry("svc", &svc{thing: &thing{ID: name, Value: value, world: l.world}, On: on, starts: true})
}

func (l *lab) entry(k string, r resource.Resource) catalog.Entry {
	return catalog.Entry{
		Address: resource.Address{Kind: k, Name: r.Name()}, Resource: r, Module: l.modules()[k],
		Origin: resource.Origin{Source: "src", File: "m.yaml", Line: 1, Column: 3},
	}
}

type options struct {
	explains    bool
	acceptPrune bool
	hasty       bool
	limit       int
	// only and blocked make the plan a partial one.
	only, blocked map[resource.Address]bool
	may           func(context.Context) bool
	windows       window.Set
}

// run plans and applies the entries as a new commit would.
func (l *lab) run(entries ...catalog.Entry) []*Outcome {
	l.t.Helper()
	return l.runAs(options{explains: true}, entries...)
}

func (l *lab) runAs(o options, entries ...catalog.Entry) []*Outcome {
	l.t.Helper()
	l.told = nil
	if l.store.Snapshot().Open != nil {
		// The agent takes up what was cut off before it looks at anything.
		if err := l.store.Append(state.Record{Done: true}); err != nil {
			l.t.Fatal(err)
		}
	}
	p := l.plan(o, entries...)
	outcomes, err := Run(l.t.Context(), l.t.Context(), p, l, func([]string) error { return nil },
		Options{Run: "r", AcceptPrune: o.acceptPrune, Moment: l.world.moment, May: o.may, Now: func() time.Time { l.now = l.now.Add(time.Second); return l.now }})
	if err != nil && o.may == nil {
		l.t.Fatal(err)
	}
	return outcomes
}

func (l *lab) plan(o options, entries ...catalog.Entry) *plan.Plan {
	l.t.Helper()
	p, err := plan.Make(l.t.Context(), plan.Input{
		Entries: entries, State: l.store.Snapshot(), Modules: l.modules(),
		Sources: map[string]plan.Source{"src": {
			Revision: "abc", PruneLimit: o.limit, Explains: func(resource.Address) bool { return o.explains },
		}},
		Configured: []string{"src"}, Digest: func(d plan.Desired) (string, error) { return l.store.Digest(d) },
		AcceptPrune: o.acceptPrune, Hasty: o.hasty, Now: l.now, Only: o.only, Blocked: o.blocked,
		Window: func(_ string, a resource.Address, cause resource.Cause) window.Hold {
			return o.windows.Hold(a, cause, l.now, time.UTC)
		},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return p
}

func (l *lab) wantLog(want ...string) {
	l.t.Helper()
	if !slices.Equal(l.world.log, want) {
		l.t.Errorf("was done:\n  %s\nwant:\n  %s", strings.Join(l.world.log, "\n  "), strings.Join(want, "\n  "))
	}
	l.world.log = nil
}

func (l *lab) wantTold(want ...string) {
	l.t.Helper()
	if !slices.Equal(l.told, want) {
		l.t.Errorf("was told:\n  %s\nwant:\n  %s", strings.Join(l.told, "\n  "), strings.Join(want, "\n  "))
	}
}

// entries are things of the value 1.
func (l *lab) entries(names ...string) []catalog.Entry {
	var list []catalog.Entry
	for _, name := range names {
		list = append(list, l.thing(name, "1"))
	}
	return list
}
