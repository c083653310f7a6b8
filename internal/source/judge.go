package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strings"
	"time"

	"trued.dev/trued/internal/source/object"
	"trued.dev/trued/internal/source/remote"
)

// A Judge decides whether a commit that a server offers may become the newest
// one. It is asked while the source is fetched, before the commit is seen by
// anybody else.
type Judge interface {
	// Inputs stands for what decisions are made from: while it is the same, a
	// refusal is repeated without looking again.
	Inputs() string
	// Accepted reports whether it has agreed to a commit.
	Accepted(commit object.ID) bool
	// Commits is asked before anything but commits is brought, Tree before the
	// commit becomes the newest one; file reads the commit's files, and returns
	// fs.ErrNotExist. Both refuse by a *DistrustError.
	Commits(ctx context.Context, o *Offered) error
	Tree(commit object.ID, file func(name string) ([]byte, error)) error
}

// A DistrustError says that a commit is not trusted. It is wrapped in an Error
// with the reason ErrRefused.
type DistrustError struct {
	Offered string
	// Reason is one word, Signer who signed it, as far as that is known.
	Reason string
	Signer string
	// Passing is true when time alone may change the decision.
	Passing bool
	Err     error
}

func (e *DistrustError) Error() string { return e.Err.Error() }

// Unwrap returns the judge's own error.
func (e *DistrustError) Unwrap() error { return e.Err }

// ErrNoDescendant is returned for a commit that does not descend from another.
var ErrNoDescendant = errors.New("it does not descend from it")

// An Offered is a commit that a server offers, as far as it was looked at: the
// commits before it come as they are asked for, and nothing else of them.
type Offered struct {
	// AnyHistory is true when an operator accepts what does not follow from what
	// the host has.
	AnyHistory bool
	// Beside is true for a commit that an operator named: it is to be had beside the
	// newest one, and does not become it.
	Beside bool

	t     *transfer
	child *remote.Client
	depth int
	raw   map[object.ID][]byte
	info  map[object.ID]object.CommitInfo
	bytes int64
}

func (t *transfer) offered(child *remote.Client) *Offered {
	return &Offered{
		AnyHistory: t.anyHistory || t.r.cfg.pinned(), Beside: t.only != "", t: t, child: child,
		raw: map[object.ID][]byte{}, info: map[object.ID]object.CommitInfo{},
	}
}

// Tip is the commit offered.
func (o *Offered) Tip() object.ID { return o.t.tip }

// Commit returns a commit as Git stores it: the one offered, a parent of it, or
// one that Since returned, or a parent of that.
func (o *Offered) Commit(id object.ID) ([]byte, error) {
	data, ok := o.raw[id]
	if !ok {
		return nil, fmt.Errorf("commit %s: %w", id, object.ErrMissing)
	}
	return data, nil
}

// deepen asks for more generations of commits.
func (o *Offered) deepen(depth int) error {
	limit := o.t.r.cfg.Limits.History
	if len(o.raw) >= limit || o.depth > 8*limit {
		return overLimit("history", "more than the %d commits before it would have to be looked at", limit)
	}
	o.depth = depth
	if err := o.child.Get(remote.Ask{Depth: min(depth, limit+1), CommitsOnly: true}, (*commitTaker)(o)); err != nil {
		return err
	}
	for id, c := range o.info {
		o.t.commits[id] = c.Parents
	}
	if _, ok := o.raw[o.t.tip]; !ok {
		return errors.New("server did not send the commit that it offers")
	}
	return nil
}

// commitTaker keeps the commits that come, in memory.
type commitTaker Offered

func (o *commitTaker) Base(id object.ID) (object.Kind, []byte, error) { return o.t.Base(id) }

func (o *commitTaker) Object(kind object.Kind, size int64, r io.Reader) error {
	if size > object.MaxCommit || (kind != object.Commit && kind != object.Tag) {
		return fmt.Errorf("a %s of %d bytes came where commits were asked for", kind, size)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return err
	}
	id, err := object.Hash(kind, data)
	if err != nil || kind == object.Tag {
		return err
	}
	if _, known := o.raw[id]; known {
		return nil
	}
	c, err := object.ParseCommit(data)
	if err != nil {
		return err
	}
	if o.bytes += size; len(o.raw) > o.t.r.cfg.Limits.History || o.bytes > maxAncestors {
		return overLimit("history", "more than %d commits, or %d bytes of them, came", o.t.r.cfg.Limits.History, maxAncestors)
	}
	o.raw[id], o.info[id] = data, c
	return nil
}

// Since returns the commits that the offered one brings, itself among them,
// beside another and what that descends from; or ErrNoDescendant.
func (o *Offered) Since(from object.ID) ([]object.ID, error) {
	for depth := max(8, 8*o.depth); ; depth *= 8 {
		list, known, err := o.since(from)
		if known {
			return list, err
		}
		before := len(o.raw)
		if err := o.deepen(depth); err != nil {
			return nil, err
		}
		if len(o.raw) == before && depth > o.t.r.cfg.Limits.History {
			return nil, errors.New("server does not send the commits before the newest one")
		}
	}
}

// since is Since of what has come so far; known is false where more is needed.
func (o *Offered) since(from object.ID) (list []object.ID, known bool, err error) {
	all, complete := o.ancestors(o.t.tip)
	if !all[from] {
		return nil, complete, ErrNoDescendant
	}
	old, oldComplete := o.ancestors(from)
	earliest := time.Unix(math.MaxInt32, 0)
	for id := range all {
		if old[id] {
			continue
		}
		c, ok := o.info[id]
		if !ok {
			return nil, false, nil
		}
		// Their dates are compared with those of their parents.
		if slices.ContainsFunc(c.Parents, func(p object.ID) bool { _, ok := o.info[p]; return !ok }) {
			return nil, false, nil
		}
		list = append(list, id)
		if c.Committed.Before(earliest) {
			earliest = c.Committed
		}
	}
	if !oldComplete {
		// One of them may be an old one after all, by a way that was not seen. Dates
		// do not grow from a commit to those before it.
		for id := range old {
			c, ok := o.info[id]
			if !ok || c.Committed.Before(earliest) {
				continue
			}
			if slices.ContainsFunc(c.Parents, func(p object.ID) bool { _, ok := o.info[p]; return !ok }) {
				return nil, false, nil
			}
		}
	}
	slices.SortFunc(list, func(a, b object.ID) int {
		if n := o.info[a].Committed.Compare(o.info[b].Committed); n != 0 {
			return n
		}
		return slices.Compare(a[:], b[:])
	})
	return list, true, nil
}

// ancestors are a commit and those before it, as far as they are known.
func (o *Offered) ancestors(id object.ID) (all map[object.ID]bool, complete bool) {
	all, complete = map[object.ID]bool{id: true}, true
	todo := []object.ID{id}
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		c, ok := o.info[at]
		complete = complete && ok
		for _, p := range c.Parents {
			if !all[p] {
				all[p] = true
				todo = append(todo, p)
			}
		}
	}
	return all, complete
}

// judge has the offered commit looked at, before its tree comes.
func (t *transfer) judge(child *remote.Client, offer remote.Offer) error {
	if t.r.o.Judge == nil {
		return nil
	}
	t.tip, t.commits = offer.Commit, map[object.ID][]object.ID{}
	o := t.offered(child)
	if err := o.deepen(2); err != nil {
		return err
	}
	if err := t.prove(child); err != nil {
		return err
	}
	return t.distrusted(t.r.o.Judge.Commits(t.ctx, o))
}

// judgeTree has the files looked at that the decision takes.
func (t *transfer) judgeTree(offer remote.Offer, read readFunc) error {
	if t.r.o.Judge == nil {
		return nil
	}
	if t.tip != offer.Commit {
		return fmt.Errorf("server offered commit %s and sent %s", offer.Commit, t.tip)
	}
	_, data, err := read(t.tip, object.MaxCommit)
	if err != nil {
		return err
	}
	c, err := object.ParseCommit(data)
	if err != nil {
		return err
	}
	return t.distrusted(t.r.o.Judge.Tree(t.tip, func(name string) ([]byte, error) {
		return fileOf(read, c.Tree, name)
	}))
}

// rejudge looks at the newest commit that the host has, where it came before the
// judge, or the judge has forgotten it.
func (t *transfer) rejudge(child *remote.Client, offer remote.Offer) error {
	if t.r.o.Judge == nil || t.r.o.Judge.Accepted(offer.Commit) {
		return nil
	}
	if err := t.judge(child, offer); err != nil {
		return err
	}
	return t.judgeTree(offer, t.store.Read)
}

type readFunc func(object.ID, int64) (object.Kind, []byte, error)

// fileOf reads a file of a tree, which may be no link.
func fileOf(read readFunc, tree object.ID, name string) ([]byte, error) {
	const most = 1 << 20
	id := tree
	parts := strings.Split(name, "/")
	for i, part := range parts {
		_, data, err := read(id, object.MaxTree)
		if err != nil {
			return nil, err
		}
		entries, err := object.ParseTree(data)
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(entries, func(e object.Entry) bool { return e.Name == part })
		if at < 0 {
			return nil, fs.ErrNotExist
		}
		e := entries[at]
		if last := i == len(parts)-1; last == e.IsTree() || last && !e.IsFile() {
			return nil, fs.ErrNotExist
		}
		id = e.ID
	}
	_, data, err := read(id, most)
	return data, err
}

// distrusted remembers a commit that the judge refused, unless it was asked for by
// its name.
func (t *transfer) distrusted(err error) error {
	var d *DistrustError
	if !errors.As(err, &d) {
		return err
	}
	r, tip := t.r, t.tip
	if d.Offered = tip.String(); t.only != "" {
		return d
	}
	kept := &keptDistrust{Inputs: r.o.Judge.Inputs(), Reason: d.Reason, Signer: d.Signer, Text: d.Error()}
	r.remember(func(m *memory) {
		m.Refused, m.RefusedBy, m.RefusedDetail, m.Distrust = tip, r.applied, "", kept
		if d.Passing {
			m.Distrust.Inputs = "" // it is looked at again
		}
	})
	return d
}

// keptDistrust is what is remembered of a DistrustError.
type keptDistrust struct {
	Inputs string `json:"inputs,omitempty"`
	Reason string `json:"reason"`
	Signer string `json:"signer,omitempty"`
	Text   string `json:"text"`
}

// distrustedBefore repeats a judge's refusal while nothing has changed.
func (r *repository) distrustedBefore(m memory) error {
	if r.o.Judge == nil || m.Distrust.Inputs == "" || m.Distrust.Inputs != r.o.Judge.Inputs() {
		return nil
	}
	return &DistrustError{
		Offered: m.Refused.String(), Reason: m.Distrust.Reason, Signer: m.Distrust.Signer, Err: errors.New(m.Distrust.Text),
	}
}
