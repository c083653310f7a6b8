package source

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"trued.dev/trued/internal/source/object"
)

// Status is what an operator wants to know about a source.
type Status struct {
	Name   string `json:"name"`
	URL    string `json:"url"`
	Branch string `json:"branch,omitempty"`
	// Fetched is the newest commit that the host has.
	Fetched Revision  `json:"fetched,omitzero"`
	Checked time.Time `json:"checked,omitzero"`
	Moved   time.Time `json:"moved,omitzero"`
	Failed  time.Time `json:"failed,omitzero"`
	// Failures counts those in a row, the first of which was at Since.
	Failures int       `json:"failures,omitempty"`
	Since    time.Time `json:"failing_since,omitzero"`
	Error    string    `json:"error,omitempty"`
	// Refused is a commit that was not accepted.
	Refused string `json:"refused,omitempty"`
	// Next is when Schedule will poll again; the caller that polls sets it.
	Next time.Time `json:"next,omitzero"`
}

// memory is what is kept of a source beside its store.
type memory struct {
	Checked  time.Time `json:"checked,omitzero"`
	Moved    time.Time `json:"moved,omitzero"`
	Failed   time.Time `json:"failed,omitzero"`
	Failures int       `json:"failures,omitempty"`
	Since    time.Time `json:"failing_since,omitzero"`
	Error    string    `json:"error,omitempty"`
	// Told is why fetching fails, as far as an event has said so.
	Told string `json:"told,omitempty"`
	// Ref is the reference that the newest commit came from.
	Ref string `json:"ref,omitempty"`
	// Extent is that of ExtentOf.
	Extent   extent    `json:"extent"`
	ExtentOf object.ID `json:"extent_of,omitzero"`
	// Refused did not descend from RefusedBy; it is not looked into again.
	Refused       object.ID `json:"refused,omitzero"`
	RefusedBy     object.ID `json:"refused_by,omitzero"`
	RefusedDetail string    `json:"refused_detail,omitempty"`
	// Distrust is why, where it was not that.
	Distrust *keptDistrust `json:"distrust,omitempty"`
	// Refusals are commits whose refusal was told of, the last ones.
	Refusals []string `json:"refusals,omitempty"`
	// Proven descends from ProvenFrom.
	Proven     object.ID `json:"proven,omitzero"`
	ProvenFrom object.ID `json:"proven_from,omitzero"`
	// Applied is a second copy of the store's own note.
	Applied object.ID `json:"applied,omitzero"`
	// Verified is when every object of the store was last hashed.
	Verified time.Time `json:"verified,omitzero"`
	// Seen are earlier commits, so that one that comes back is known as such.
	Seen []object.ID `json:"seen,omitempty"`
}

const (
	maxSeen     = 1000
	maxRefusals = 100
)

// load reads the memory that a process left. It is disposable: what cannot be
// read is nothing.
func (m *memory) load(name string) {
	var on memory
	if data, err := os.ReadFile(name); err == nil && json.Unmarshal(data, &on) == nil {
		*m = on
	}
}

func (c *cache) memoryFile() string { return filepath.Join(c.dir, "status.json") }

// remember changes the memory and keeps it on disk. It can be lost, so it is not
// waited for until it is durable, and failing to write it fails no fetch.
func (c *cache) remember(change func(*memory)) {
	c.mu.Lock()
	change(&c.memory)
	data, err := json.Marshal(c.memory)
	c.mu.Unlock()
	if err != nil {
		return
	}
	name := c.memoryFile()
	if err := os.WriteFile(name+".new", data, 0o600); err == nil {
		_ = os.Rename(name+".new", name)
	}
	c.look()
}

// look notes which file the memory is the same as.
func (c *cache) look() {
	info, err := os.Stat(c.memoryFile())
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remembered = info
}

// recall takes over what another process remembered of its fetches.
func (c *cache) recall() {
	info, err := os.Stat(c.memoryFile())
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || c.remembered != nil && os.SameFile(info, c.remembered) && info.ModTime().Equal(c.remembered.ModTime()) {
		return
	}
	c.memory.load(c.memoryFile())
	c.remembered = info
}

// Status tells how fetching goes.
func (c *cache) Status() Status {
	last, _ := c.Last()
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.memory
	s := Status{
		Name: c.cfg.Name, URL: c.URL(), Branch: c.shownRef(), Fetched: last,
		Checked: m.Checked, Moved: m.Moved, Failed: m.Failed, Failures: m.Failures, Since: m.Since, Error: m.Error,
	}
	if !m.Refused.IsZero() {
		s.Refused = m.Refused.String()
	}
	return s
}

// shownRef is what is followed, in the words that the operator wrote, or that
// the server gave for a pattern and for its default branch. The caller holds
// mu.
func (c *cache) shownRef() string {
	short := strings.TrimPrefix(strings.TrimPrefix(c.memory.Ref, "refs/heads/"), "refs/tags/")
	if short == "" || c.cfg.Branch != "" || c.cfg.Commit != "" {
		return c.cfg.ref()
	}
	return short
}

// conclude keeps how a fetch went and tells of it. An end that the caller made
// says nothing about the source.
func (c *cache) conclude(ctx context.Context, before object.ID, r Revision, err error) {
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	c.mu.Lock()
	was := c.memory
	c.mu.Unlock()
	c.note(before, r, err)
	c.tell(was, before, r, err)
}

// note keeps how a fetch went. Only what an operator would miss is written to
// disk: a check that found nothing new is not.
func (c *cache) note(before object.ID, r Revision, err error) {
	now := c.o.Now()
	if err != nil {
		c.remember(func(m *memory) {
			if m.Failures == 0 {
				m.Since = now
			}
			m.Checked, m.Failed, m.Error, m.Told = now, now, err.Error(), reason(err)
			m.Failures++
			if why := distrust(err); why != "" && !slices.Contains(m.Refusals, why) {
				m.Refusals = append(m.Refusals, why)
				m.Refusals = m.Refusals[max(0, len(m.Refusals)-maxRefusals):]
			}
		})
		return
	}
	if before.String() == r.Commit {
		c.mu.Lock()
		quiet := c.memory.Failures == 0 && now.Sub(c.memory.Checked) < time.Hour
		if quiet {
			c.memory.Checked = now
		}
		c.mu.Unlock()
		if quiet {
			return
		}
	}
	c.remember(func(m *memory) {
		if before.String() != r.Commit {
			m.Moved = now
			m.Seen = append(m.Seen, before)
			m.Seen = m.Seen[max(0, len(m.Seen)-maxSeen):]
		}
		m.Checked, m.Failures, m.Since, m.Error, m.Told = now, 0, time.Time{}, "", ""
		m.Refused, m.RefusedBy, m.RefusedDetail, m.Distrust = object.ID{}, object.ID{}, "", nil
	})
}
