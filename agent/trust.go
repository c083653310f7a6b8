package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/source"
	"trued.dev/trued/internal/source/object"
	"trued.dev/trued/internal/state"
	"trued.dev/trued/internal/trust"
)

// TrustConfig says who may change what a source brings.
type TrustConfig struct {
	Require        trust.Require `yaml:"require" doc:"which commits must be signed: none, signature (the one to be applied), history (all since the last trusted one); none"`
	AllowedSigners string        `yaml:"allowed_signers" doc:"who may sign by SSH, a file as ssh-keygen(1) has it"`
	Keyring        string        `yaml:"keyring" doc:"who may sign by OpenPGP, a file of public keys"`
	Revoked        string        `yaml:"revoked" doc:"SSH keys that are revoked: public keys, or a KRL of ssh-keygen"`
	Introduction   object.ID     `yaml:"introduction" doc:"the commit that trust begins at"`
	Signers        trust.Place   `yaml:"signers" doc:"host: the files above list who may sign; repository: .trued/allowed_signers of each parent does, from the introduction on; host"`
	FreshWithin    Age           `yaml:"fresh_within" doc:"how old the newest commit may be, such as 14d, before source.stale is told; for ever"`
}

// An Age is a duration that may be given in days.
type Age time.Duration

// UnmarshalText reads what time.ParseDuration does, or a number of days.
func (a *Age) UnmarshalText(text []byte) error {
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 15); err == nil {
			*a = Age(time.Duration(n) * 24 * time.Hour)
			return nil
		}
	}
	d, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no duration: write a number and a unit, such as 14d or 36h", text)
	}
	*a = Age(d)
	return nil
}

// MarshalText is the reverse of UnmarshalText.
func (a Age) MarshalText() ([]byte, error) { return []byte(time.Duration(a).String()), nil }

func (s SourceConfig) trust() trust.Config {
	t := s.Trust
	return trust.Config{
		Require: t.Require, AllowedSigners: t.AllowedSigners, Keyring: t.Keyring, Revoked: t.Revoked,
		Signers: t.Signers, Introduction: t.Introduction, FreshWithin: time.Duration(t.FreshWithin), Repository: s.Repository,
	}
}

func (s SourceConfig) validateTrust() error {
	c := s.trust()
	if s.Dir != "" && c != (trust.Config{}) {
		return errors.New("trust and repository: a plain directory has neither signatures nor a name: take them away, or write `url:`")
	}
	if err := c.Validate(); err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	return nil
}

// A warden keeps what is known of whom to trust, for one source: which commits
// were accepted and by what. It is the source's judge.
type warden struct {
	config trust.Config
	judge  *trust.Judge
	file   string
	// applied is the commit that the state says the host is at.
	applied func() string
	// kept are others that it may be brought to.
	kept func() []string

	mu      sync.Mutex
	pending trust.Verdict
	beside  bool // it does not become the newest one
}

// accepted is the file of a warden.
type accepted struct {
	// Verdicts are the commits that were accepted last, the newest at the end.
	Verdicts []trust.Verdict `json:"verdicts"`
	// Stale is a commit of which was told that it is too old to be the newest.
	Stale string `json:"stale,omitempty"`
	// Told are the commits of which was told that they may not be applied although
	// they are here, each with the reason.
	Told []string `json:"told,omitempty"`
}

const keptVerdicts = 50

func (a *Agent) newWarden(c SourceConfig) *warden {
	w := &warden{
		config: c.trust(), judge: trust.NewJudge(c.trust(), source.ErrNoDescendant),
		file: filepath.Join(a.store.Dir(), "trust", c.storeName()+".json"),
	}
	w.applied = func() string { return a.store.Head().Sources[c.Name].Applied }
	w.kept = func() []string { return a.mayReturnTo(c.Name) }
	return w
}

// judges reports whether there is anything to decide.
func (w *warden) judges() bool { return w.config.Active() || w.config.Repository != "" }

// load reads the file. One that is lost, or cannot be read, has nothing in it:
// then nothing is accepted.
func (w *warden) load() accepted {
	var a accepted
	if data, err := os.ReadFile(w.file); err != nil || json.Unmarshal(data, &a) != nil {
		return accepted{}
	}
	return a
}

func (w *warden) save(a accepted) error {
	data, err := json.Marshal(a)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(w.file), 0o700)
	}
	if err == nil {
		err = replace(w.file, data)
	}
	if err != nil {
		return fmt.Errorf("cannot keep which commit is trusted: %w", err)
	}
	return nil
}

// replace writes a file so that after a power cut it is the old one or the new.
func replace(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return object.SyncDir(filepath.Dir(name))
}

// verdict is that on a commit which was accepted by what is required today.
func (w *warden) verdict(commit string) (trust.Verdict, bool) {
	for _, v := range slices.Backward(w.load().Verdicts) {
		if v.Commit == commit {
			return v, w.fits(v)
		}
	}
	return trust.Verdict{}, false
}

// fits reports whether a verdict was made by what is required today.
func (w *warden) fits(v trust.Verdict) bool {
	intro := ""
	if !w.config.Introduction.IsZero() {
		intro = w.config.Introduction.String()
	}
	level := w.config.Require
	if !w.config.Active() {
		level = trust.None
	}
	return v.Level == level && v.Signers == w.config.Signers && v.Introduction == intro && v.Repository == w.config.Repository
}

// Inputs implements source.Judge.
func (w *warden) Inputs() string { return w.judge.Inputs() + w.anchor().Last.Commit + w.applied() }

// Accepted implements source.Judge.
func (w *warden) Accepted(commit object.ID) bool {
	_, ok := w.verdict(commit.String())
	return ok
}

func (w *warden) anchor() trust.Anchor {
	var a trust.Anchor
	if known := w.load().Verdicts; len(known) > 0 {
		a.Last = known[len(known)-1]
	}
	if applied := w.applied(); applied != "" {
		if id, err := object.ParseID(applied); err == nil {
			a.Applied = id
		}
	}
	return a
}

// Commits implements source.Judge.
func (w *warden) Commits(_ context.Context, o *source.Offered) error {
	a := w.anchor()
	a.Accept = o.AnyHistory
	v, err := w.judge.Commits(o, a)
	if err != nil {
		return distrust(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending, w.beside = v, o.Beside
	return nil
}

// Tree implements source.Judge. What it agrees to is accepted.
func (w *warden) Tree(commit object.ID, file func(string) ([]byte, error)) error {
	if err := w.judge.Tree(commit, file); err != nil {
		return distrust(err)
	}
	w.mu.Lock()
	v, beside := w.pending, w.beside
	w.mu.Unlock()
	if v.Commit != commit.String() {
		return fmt.Errorf("commit %s was not looked at before its tree was", commit)
	}
	a := w.load()
	a.Verdicts = slices.DeleteFunc(a.Verdicts, func(o trust.Verdict) bool { return o.Commit == v.Commit })
	at := len(a.Verdicts)
	if beside {
		at = max(0, at-1) // trust goes on from the newest one
	}
	a.Verdicts = w.trim(slices.Insert(a.Verdicts, at, v))
	return w.save(a)
}

// trim leaves out old verdicts, but for those on commits that the host is at or may be
// brought to.
func (w *warden) trim(all []trust.Verdict) []trust.Verdict {
	old := len(all) - keptVerdicts
	if old <= 0 {
		return all
	}
	held := append(w.kept(), w.applied())
	return append(slices.DeleteFunc(all[:old], func(v trust.Verdict) bool { return !slices.Contains(held, v.Commit) }), all[old:]...)
}

// distrust makes a refusal what a source makes of it.
func distrust(err error) error {
	var r *trust.Refusal
	if !errors.As(err, &r) {
		return err
	}
	// The clock, and nothing else, makes the first right; the host's files and its
	// state are among the judge's inputs.
	return &source.DistrustError{Offered: r.Commit, Reason: string(r.Reason), Signer: r.Signer, Passing: r.Reason == trust.Future, Err: r}
}

// standing reports why the newest commit that the host has may not be applied: it
// was not accepted, or the key that signed it is revoked by now.
func (w *warden) standing(src source.Source, rev source.Revision) error {
	if !w.judges() {
		return nil
	}
	v, ok := w.verdict(rev.Commit)
	if !ok {
		return &trust.Refusal{
			Reason: trust.NoAnchor, Commit: rev.Commit,
			Detail: "it was fetched before this was required of it: it is looked at when the source is fetched next",
		}
	}
	raw, err := src.Raw(rev.Commit)
	if err != nil {
		return err
	}
	return w.judge.Revoked(raw, v)
}

// stale returns the event that the newest commit is too old, the first time.
func (w *warden) stale(src source.Source, now time.Time) (source.Event, bool) {
	rev, ok := src.Last()
	if !ok || !w.config.Stale(rev.Committed, now) {
		return source.Event{}, false
	}
	known := w.load()
	if known.Stale == rev.Commit {
		return source.Event{}, false
	}
	known.Stale = rev.Commit
	if err := w.save(known); err != nil {
		return source.Event{}, false
	}
	why := fmt.Errorf("newest commit %s of source %q is from %s, longer ago than fresh_within of %s: somebody may be holding back newer ones; the host keeps to it",
		Short(rev.Commit), src.Name(), rev.Committed.Format(time.RFC3339), w.config.FreshWithin)
	return source.Event{
		Type: source.EventStale, Source: src.Name(), URL: src.URL(), Revision: rev.Commit, Reason: "not_fresh",
		Err: why, Message: why.Error(),
	}, true
}

// freshness tells of sources whose newest commit is too old to be it.
func (a *Agent) freshness(now time.Time) {
	for i, src := range a.sources {
		if e, ok := a.wardens[i].stale(src, now); ok {
			a.fromSource(e)
		}
	}
}

// standTrust notes which newest commits may not be applied although they are here, and
// tells of each once.
func (r *run) standTrust() {
	for i, s := range r.sources {
		rev, ok := s.source.Last()
		if !ok {
			continue
		}
		err := r.agent.wardens[i].standing(s.source, rev)
		if err == nil {
			continue
		}
		s.distrusted = true
		if s.err != nil {
			continue
		}
		s.err = err
		var why *trust.Refusal
		if !errors.As(err, &why) || r.looks || !r.agent.wardens[i].news(rev.Commit, why.Reason) {
			continue
		}
		r.agent.count(failure{source: s.name(), reason: string(why.Reason), refused: true})
		r.agent.told(r.rec.incident(report.Incident{
			Type: report.SourceRefused, Source: s.name(), Commit: rev.Commit, ErrType: string(why.Reason), Err: err, Signer: why.Signer, Message: err.Error(),
		}))
	}
}

// news reports whether a refusal is to be told of: once, whatever else went wrong in
// between.
func (w *warden) news(commit string, why trust.Reason) bool {
	known, what := w.load(), commit+" "+string(why)
	if slices.Contains(known.Told, what) {
		return false
	}
	known.Told = append(known.Told, what)
	known.Told = known.Told[max(0, len(known.Told)-keptVerdicts):]
	return w.save(known) == nil
}

// A Trusted is why a source's commit is trusted.
type Trusted struct {
	// Level is what was required of it: none, signature, history.
	Level  trust.Require `json:"level"`
	Signer string        `json:"signer,omitempty"`
	Key    string        `json:"key,omitempty"`
	// Stale is true when the newest commit is older than fresh_within.
	Stale bool `json:"stale,omitempty"`
}

// trusted is why a commit is trusted.
func (a *Agent) trusted(name, commit string) Trusted {
	t := Trusted{Level: trust.None}
	for i, src := range a.sources {
		if src.Name() != name {
			continue
		}
		w := a.wardens[i]
		if last, ok := src.Last(); ok {
			t.Stale = w.config.Stale(last.Committed, time.Now())
		}
		if !w.config.Active() {
			return t
		}
		for _, v := range w.load().Verdicts {
			if v.Commit == commit {
				t.Level, t.Signer, t.Key = v.Level, v.Signer, v.Key
			}
		}
	}
	return t
}

// commits are what a run brought the host to, with who signed it.
func (r *run) commits() []state.Commit {
	var list []state.Commit
	for _, s := range r.sources {
		if s.revision == "" {
			continue
		}
		t := r.agent.trusted(s.name(), s.revision)
		list = append(list, state.Commit{Source: s.name(), Revision: s.revision, Signer: t.Signer, Trust: string(t.Level)})
	}
	return list
}

// CheckTrust decides on the newest commit of a repository as a host does that
// trusts the introduction, or, without one, knows of nothing and is told to accept
// it. It keeps nothing.
func CheckTrust(ctx context.Context, c SourceConfig) (trust.Verdict, error) {
	if err := errors.Join(c.source().Validate(), c.validateTrust()); err != nil {
		return trust.Verdict{}, err
	}
	dir, err := os.MkdirTemp("", "trued-trust-")
	if err != nil {
		return trust.Verdict{}, fmt.Errorf("cannot look at the repository: %w", err)
	}
	defer os.RemoveAll(dir)
	w := &warden{
		config: c.trust(), judge: trust.NewJudge(c.trust(), source.ErrNoDescendant),
		file: filepath.Join(dir, "trust.json"), applied: func() string { return "" }, kept: func() []string { return nil },
	}
	src, err := source.Open(c.source(), filepath.Join(dir, "store"), source.Options{Judge: w})
	if err != nil {
		return trust.Verdict{}, err
	}
	defer func() { _ = src.Close() }()
	fetch := src.Fetch
	if w.config.Introduction.IsZero() {
		fetch = func(ctx context.Context) (source.Revision, error) { return src.Accept(ctx, "") }
	}
	rev, err := fetch(ctx)
	if err != nil {
		return trust.Verdict{}, err
	}
	v, _ := w.verdict(rev.Commit)
	return v, nil
}
