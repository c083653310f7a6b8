// Package state is what the agent remembers: the snapshot of what it holds on
// this host, the ledger of what it is about to do and did since, the events
// that wait for their sinks, and the lock that lets one run at a time.
//
// It stores and replays. It decides nothing: what a record means for the host
// is said by its callers.
//
// The program that reads the state may be older than the one that wrote it: a
// commit that brings another trued is on trial like any other, and whoever goes
// back from it is the program that was there before. So what a field or a record
// means never changes, and what is added may be left out by whoever does not know
// it: unknown fields are passed over. What cannot be had like this takes two
// releases, of which the first reads what the second writes, and Format counts
// those: a release reads one format beyond its own, and its own is what it writes.
package state

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"trued.dev/trued/internal/resource"
)

// Format is the version of the files written. A release reads the formats before its
// own and the one after it, and writes nothing that the release before cannot read.
const Format = 1

// A Snapshot is everything remembered at one moment. It is written whole and
// atomically; the ledger holds what has happened since.
type Snapshot struct {
	Format int `json:"format"`
	// Seq is the last ledger record that the snapshot contains.
	Seq uint64 `json:"seq"`
	// Events is the number of the last event written.
	Events uint64 `json:"events"`
	// Changed is the last record that changed the inventory or what is owed, or
	// the first of all.
	Changed uint64 `json:"changed,omitempty"`
	// Inventory is what trued holds on this host.
	Inventory map[resource.Address]Entry `json:"inventory"`
	Sources   map[string]Source          `json:"sources"`
	Owed      []Owed                     `json:"owed,omitempty"`
	// Contests are the resources that were put back not long ago.
	Contests map[resource.Address]Contest `json:"contests,omitempty"`
	// Holds are the changes that wait for a window.
	Holds map[resource.Address]Hold `json:"holds,omitempty"`
	// Reboot is one that something on the host asks for.
	Reboot *Reboot `json:"reboot,omitempty"`
	// Trial is what was applied and not confirmed yet; nil when nothing is.
	Trial *Trial `json:"trial,omitempty"`
	// Dropped is what left the inventory meanwhile, as it was. Whoever goes back puts
	// it there again: what was noted before trued changed the host cannot be seen
	// any more once it was changed back.
	Dropped map[resource.Address]Entry `json:"dropped,omitempty"`
	// Unwell is why the host is not healthy although it goes nowhere; nil while it is.
	Unwell *Unwell `json:"unwell,omitempty"`
	// Open is a batch whose outcome was never recorded.
	Open *Begin `json:"open,omitempty"`
	// LastRun is the last run that finished.
	LastRun *Run `json:"last_run,omitempty"`
	// Runs counts the runs that finished, by verdict, and Told the events about
	// resources, since the state was made.
	Runs map[string]uint64 `json:"runs,omitempty"`
	Told Tallies           `json:"told,omitempty"`
	// RunEvents is how many events the run that is under way has written.
	RunEvents uint64 `json:"run_events,omitempty"`
	// Running is a run that started and has not finished.
	Running *Run `json:"running,omitempty"`
}

// An Entry is one resource of the inventory.
type Entry struct {
	Source string           `json:"source"`
	Claims []resource.Claim `json:"claims"`
	Prior  resource.Prior   `json:"prior,omitempty"`
	// Digest of what was desired when the host was last brought to it, keyed so
	// that it gives nothing away. Empty until it succeeded once.
	Digest string `json:"digest,omitempty"`
	// Keep is true for `prune: false`.
	Keep bool `json:"keep,omitempty"`
	// Secret is true where what the host was last brought to is sensitive: what is
	// there is not told when something that is none takes its place.
	Secret bool `json:"secret,omitempty"`
	// Place is the resource's position in its catalog; what leaves goes in
	// reverse.
	Place int `json:"place"`
	// Feeds are those who reacted to the resource as it is now: they react as well
	// when it goes, or goes back, even if no catalog says so any more.
	Feeds []Feed `json:"feeds,omitempty"`
	// Left is the revision whose new tree no longer has the resource. While it
	// is set, the prune is explained and may go on when it had to wait.
	Left string `json:"left,omitempty"`
	// Failing is the digest of what could not be brought about, Failures how
	// often in a row, and RetryAt when the next try is due.
	Failing  string    `json:"failing,omitempty"`
	Failures int       `json:"failures,omitempty"`
	RetryAt  time.Time `json:"retry_at,omitzero"`
	// Begun is a change that was begun and of whose end nothing is known: the
	// run that comes next tells of it.
	Begun *Begun `json:"begun,omitempty"`
	// Reported is a digest of the drift that was reported and not repaired, so
	// that it is told once and again only when it changes.
	Reported string `json:"reported,omitempty"`
}

// A Feed is a reaction that a change of a resource causes.
type Feed struct {
	Target   resource.Address  `json:"target"`
	Reaction resource.Reaction `json:"reaction"`
}

// Begun is a change that was begun.
type Begun struct {
	Cause   resource.Cause `json:"cause"`
	Changes resource.Diff  `json:"changes,omitempty"`
}

// LastPause is the longest pause between tries of what fails.
const LastPause = 15 * time.Minute

// Waits reports whether the next try of what failed is not due yet. A date that
// no pause reaches was written before the clock was set back.
func (e Entry) Waits(now time.Time) bool {
	return now.Before(e.RetryAt) && e.RetryAt.Sub(now) <= LastPause
}

// A Source is what is known of a source's state on this host.
type Source struct {
	URL    string `json:"url,omitempty"`
	Branch string `json:"branch,omitempty"`
	// Applied is the revision that the host was last brought to.
	Applied string `json:"applied,omitempty"`
	// Attempted is the newest revision seen, when it is another.
	Attempted string `json:"attempted,omitempty"`
	// Problem says why Attempted is not applied, in one line.
	Problem string `json:"problem,omitempty"`
	// Input is what the applied revision was loaded with.
	Input json.RawMessage `json:"input,omitempty"`
	Group string          `json:"group,omitempty"`
	// Previous are the commits that were confirmed before that, the last one first,
	// for whoever wants to go back.
	Previous []Standing `json:"previous,omitempty"`
	// Whole is the last commit of which nothing waited, while changes of the applied
	// one wait for their windows: when they are made and the host is not healthy
	// then, that is where it goes back to.
	Whole *Standing `json:"whole,omitempty"`
	// Quarantine is a commit that is not tried again, Pin one that is kept to.
	Quarantine *Quarantine `json:"quarantine,omitempty"`
	Pin        *Pin        `json:"pin,omitempty"`
}

// Owed is a reaction that has not been carried out yet.
type Owed struct {
	Target   resource.Address  `json:"target"`
	Reaction resource.Reaction `json:"reaction"`
	// Because is the resource whose change causes it.
	Because resource.Address `json:"because"`
	Cause   resource.Cause   `json:"cause"`
	// Since is when the change was about to be made.
	Since time.Time `json:"since"`
	// Begun is the same by the clock of the boot, for the last of several such
	// changes; Placed is when that was in place, unknown until it was seen there.
	Begun  resource.Moment `json:"begun,omitzero"`
	Placed resource.Moment `json:"placed,omitzero"`
}

// Own reports whether the debtor's own change is the cause.
func (o Owed) Own() bool { return o.Because == o.Target }

// Same reports whether two entries stand for the same debt.
func (o Owed) Same(p Owed) bool {
	return o.Target == p.Target && o.Reaction == p.Reaction && o.Because == p.Because
}

// A Contest is what is remembered of a resource that was put back not long ago,
// and that somebody may hold for theirs.
type Contest struct {
	// Repairs are the last times that it was put back.
	Repairs []time.Time `json:"repairs"`
	// Since is when it became contested, Pause how long the next repair waits, and
	// Next until when; zero while it is not.
	Since time.Time     `json:"since,omitzero"`
	Pause time.Duration `json:"pause,omitempty"`
	Next  time.Time     `json:"next,omitzero"`
}

// A Hold is a change that waits for its window.
type Hold struct {
	Since time.Time `json:"since"`
	// Opens is when that is; zero when it could not be foreseen.
	Opens time.Time `json:"opens,omitzero"`
	// Change is a digest of what waits, so that it is told once, and again only
	// when it is something else.
	Change string `json:"change"`
}

// A Reboot is one that something which was installed asks for.
type Reboot struct {
	Since time.Time `json:"since,omitzero"`
	// Boot is the id of the boot in which that was seen last.
	Boot     string   `json:"boot,omitempty"`
	Packages []string `json:"packages,omitempty"`
	// Asked is the id of the boot that trued ended for it, Vain is true when it is
	// asked for all the same since.
	Asked string `json:"asked,omitempty"`
	Vain  bool   `json:"vain,omitempty"`
}

// A Run is what one run came to.
type Run struct {
	ID       string    `json:"id"`
	Trigger  string    `json:"trigger"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished,omitzero"`
	Verdict  string    `json:"verdict,omitempty"`
	// Partial is true for a run that looked at a few resources. Its verdict and
	// its issues are those of the host all the same, as far as they are known.
	Partial bool   `json:"partial,omitempty"`
	Summary string `json:"summary,omitempty"`
	// Issues are the resources that were not simply brought into order, the
	// first hundred of them.
	Issues []Issue `json:"issues,omitempty"`
	// Drifts are resources that had drifted, whatever came of it, since the last
	// run that looked at everything; some of them where they are many.
	Drifts []Drift `json:"drifts,omitempty"`
	// Commits are what it brought the host to.
	Commits []Commit `json:"commits,omitempty"`
	// Resources counts all of them by kind and outcome.
	Resources Tallies `json:"resources,omitempty"`
	// Phases is how long each part of the run took.
	Phases map[string]time.Duration `json:"phases,omitempty"`
}

// A Commit is one that a run enforced.
type Commit struct {
	Source   string `json:"source"`
	Revision string `json:"revision"`
	// Signer is who signed it, Trust what was required of it.
	Signer string `json:"signer,omitempty"`
	Trust  string `json:"trust,omitempty"`
}

// A Drift is a resource that the host had changed.
type Drift struct {
	Resource resource.Address `json:"resource"`
	Outcome  string           `json:"outcome"`
	// Hint says who most likely did it, in one line; empty where nobody is known.
	Hint string `json:"hint,omitempty"`
}

// An Issue is a resource that a run left in another state than desired.
type Issue struct {
	Resource resource.Address `json:"resource"`
	Outcome  string           `json:"outcome"`
	Why      string           `json:"why,omitempty"`
}

// Begin says, before a batch of changes, what will be changed and why.
type Begin struct {
	Run   string    `json:"run"`
	Batch int       `json:"batch"`
	Time  time.Time `json:"time"`
	Items []Intent  `json:"items"`
}

// An Intent is one resource of a batch.
type Intent struct {
	Address resource.Address `json:"address"`
	Source  string           `json:"source"`
	Cause   resource.Cause   `json:"cause"`
	Claims  []resource.Claim `json:"claims"`
	Prior   resource.Prior   `json:"prior,omitempty"`
	Keep    bool             `json:"keep,omitempty"`
	Place   int              `json:"place"`
	Feeds   []Feed           `json:"feeds,omitempty"`
	// Changes is what will be changed, without diffs of text.
	Changes resource.Diff `json:"changes,omitempty"`
}

// A Record is one line of the ledger: what changes in the snapshot, and the
// events that tell of it.
type Record struct {
	Seq   uint64                     `json:"seq"`
	Begin *Begin                     `json:"begin,omitempty"`
	Done  bool                       `json:"done,omitempty"`
	Put   map[resource.Address]Entry `json:"put,omitempty"`
	Drop  []resource.Address         `json:"drop,omitempty"`
	Owe   []Owed                     `json:"owe,omitempty"`
	// Placed are debts whose cause is in place, with the moment of it.
	Placed  []Owed            `json:"placed,omitempty"`
	Settle  []Owed            `json:"settle,omitempty"`
	Sources map[string]Source `json:"sources,omitempty"`
	// Trial replaces what is on trial; one without sources ends it.
	Trial *Trial `json:"trial,omitempty"`
	// Unwell replaces why the host is not healthy; one that is zero ends it.
	Unwell *Unwell `json:"unwell,omitempty"`
	// Contests replace those of the same resources; one without repairs is over.
	Contests map[resource.Address]Contest `json:"contests,omitempty"`
	// Holds replace those of the same resources; one without a change is over.
	Holds map[resource.Address]Hold `json:"holds,omitempty"`
	// Reboot is what is asked for from now on; one without a date is that nothing is.
	Reboot *Reboot `json:"reboot,omitempty"`
	// Forget names sources whose memory is given up.
	Forget   []string `json:"forget,omitempty"`
	Started  *Run     `json:"started,omitempty"`
	Finished *Run     `json:"finished,omitempty"`
	// Told counts those of Events that are about resources.
	Told Tallies `json:"told,omitempty"`
	// FirstEvent is the number of the first of Events.
	FirstEvent uint64            `json:"first_event,omitempty"`
	Events     []json.RawMessage `json:"events,omitempty"`
}

func newSnapshot() Snapshot {
	return Snapshot{
		Format:    Format,
		Inventory: map[resource.Address]Entry{},
		Sources:   map[string]Source{},
	}
}

// aboutInventory reports whether the record changes the inventory.
func (r *Record) aboutInventory() bool {
	return r.Begin != nil || len(r.Put) > 0 || len(r.Drop) > 0 || len(r.Forget) > 0
}

// fold makes the snapshot what it is after the record.
func (s *Snapshot) fold(r Record) {
	s.Seq = r.Seq
	if s.Changed == 0 || r.aboutInventory() || r.Done || len(r.Owe) > 0 || len(r.Settle) > 0 {
		s.Changed = r.Seq
	}
	if r.Begin != nil {
		s.Open = r.Begin
		begun := map[resource.Address]Hold{}
		for _, item := range r.Begin.Items {
			s.begin(item)
			if _, waits := s.Holds[item.Address]; waits {
				begun[item.Address] = Hold{}
			}
		}
		s.foldHolds(begun)
	}
	for _, o := range r.Owe {
		i := slices.IndexFunc(s.Owed, o.Same)
		if i < 0 {
			s.Owed = append(s.Owed, o)
			continue
		}
		// What was done for an earlier change does not settle this one.
		s.Owed[i].Begun, s.Owed[i].Placed = o.Begun, o.Placed
	}
	for _, o := range r.Placed {
		if i := slices.IndexFunc(s.Owed, o.Same); i >= 0 {
			s.Owed[i].Placed = o.Placed
		}
	}
	if r.Done {
		s.Open = nil
	}
	for a, e := range r.Put {
		s.Inventory[a] = e
	}
	for _, a := range r.Drop {
		s.drop(a)
	}
	for _, o := range r.Settle {
		s.Owed = slices.DeleteFunc(s.Owed, o.Same)
	}
	for name, src := range r.Sources {
		s.Sources[name] = src
	}
	if r.Trial != nil {
		if s.Trial = r.Trial; len(r.Trial.Sources) == 0 {
			s.Trial = nil
		}
		if s.Trial == nil || s.Trial.Failed != "" {
			s.Dropped = nil
		}
	}
	if r.Unwell != nil {
		if s.Unwell = r.Unwell; r.Unwell.Since.IsZero() {
			s.Unwell = nil
		}
	}
	for a, c := range r.Contests {
		if len(c.Repairs) == 0 {
			delete(s.Contests, a)
			continue
		}
		if s.Contests == nil {
			s.Contests = map[resource.Address]Contest{}
		}
		s.Contests[a] = c
	}
	s.foldHolds(r.Holds)
	if r.Reboot != nil {
		if s.Reboot = r.Reboot; r.Reboot.Since.IsZero() {
			s.Reboot = nil
		}
	}
	for _, name := range r.Forget {
		delete(s.Sources, name)
		for a, e := range s.Inventory {
			if e.Source == name {
				delete(s.Inventory, a)
			}
		}
	}
	if r.Started != nil {
		s.Running, s.RunEvents = r.Started, 0
	}
	s.RunEvents += uint64(len(r.Events))
	if r.Finished != nil {
		s.LastRun, s.Running = r.Finished, nil
		s.count(r.Finished.Verdict)
	}
	if len(r.Told) > 0 {
		// Whoever has the snapshot as it was goes on reading it.
		s.Told = slices.Clone(s.Told).Add(r.Told...)
	}
	if n := len(r.Events); n > 0 {
		s.Events = r.FirstEvent + uint64(n) - 1
	}
}

// drop takes a resource out of the inventory. Whoever has the snapshot as it was
// goes on reading it.
func (s *Snapshot) drop(a resource.Address) {
	e, there := s.Inventory[a]
	_, known := s.Dropped[a]
	if there && !known && s.Trial.HasWayBack() && s.Trial.Failed == "" {
		dropped := maps.Clone(s.Dropped)
		if dropped == nil {
			dropped = map[resource.Address]Entry{}
		}
		dropped[a] = e
		s.Dropped = dropped
	}
	delete(s.Inventory, a)
}

// foldHolds makes the holds what they are from now on. Whoever has the snapshot as
// it was goes on reading it.
func (s *Snapshot) foldHolds(changed map[resource.Address]Hold) {
	if len(changed) == 0 {
		return
	}
	holds := maps.Clone(s.Holds)
	if holds == nil {
		holds = map[resource.Address]Hold{}
	}
	for a, h := range changed {
		if holds[a] = h; h.Change == "" {
			delete(holds, a)
		}
	}
	s.Holds = holds
}

// count counts a run. The map may be in somebody's hands.
func (s *Snapshot) count(verdict string) {
	runs := make(map[string]uint64, len(s.Runs)+1)
	maps.Copy(runs, s.Runs)
	runs[verdict]++
	s.Runs = runs
}

// begin makes what is about to be changed part of the inventory: from here on
// the host may have it, whatever comes.
func (s *Snapshot) begin(item Intent) {
	e := s.Inventory[item.Address]
	e.Source, e.Keep, e.Place = item.Source, item.Keep, item.Place
	e.Begun = &Begun{Cause: item.Cause, Changes: item.Changes}
	for _, c := range item.Claims {
		if !slices.Contains(e.Claims, c) {
			e.Claims = append(e.Claims, c)
		}
	}
	for _, f := range item.Feeds {
		if !slices.Contains(e.Feeds, f) {
			e.Feeds = append(slices.Clip(e.Feeds), f)
		}
	}
	if item.Prior != nil {
		e.Prior = item.Prior
	}
	s.Inventory[item.Address] = e
}

// OwedTo returns what is owed to a resource.
func (s *Snapshot) OwedTo(a resource.Address) []Owed {
	var owed []Owed
	for _, o := range s.Owed {
		if o.Target == a {
			owed = append(owed, o)
		}
	}
	return owed
}
