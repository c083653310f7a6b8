package units

import (
	"context"
	"encoding/binary"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// What a witness of a unit is about, beside its names and its enablement.
const (
	ofState  byte = 1 << iota // whether it runs
	ofLoaded                  // whether systemd has read its files
)

// A sight is a file of the unit as it was compared.
type sight struct {
	path  string
	found host.PathFinding
}

// witness is what the check rests on. There is none where that is more than
// systemd says of the unit at a glance, or where there is something to remark.
func (c *check) witness() resource.Witness {
	u, seen := c.unit, c.seen
	vague := seen.file == "indirect" || strings.HasPrefix(seen.file, "masked") // others decide, or are below
	switch {
	case u.manager.host.Offline(), !c.found.InOrder(), len(c.remarks) > 0, seen.Job != 0:
		return nil
	case u.Enabled != nil && vague, u.State == Running && seen.Active != "active":
		return nil
	}
	var about byte
	if u.State != "" {
		about |= ofState
	}
	if c.mayBeUnread() {
		about |= ofLoaded
	}
	w := appendGlance(resource.Witness{about}, about, seen)
	for _, s := range c.sights {
		w = appendText(w, s.path)
		if w = s.found.AppendWitness(w, "", ""); w == nil {
			return nil
		}
	}
	return w
}

func appendText(w resource.Witness, text string) resource.Witness {
	return append(binary.AppendUvarint(w, uint64(len(text))), text...)
}

// appendGlance appends what systemd says of a unit, as far as it matters.
func appendGlance(w resource.Witness, about byte, seen observed) resource.Witness {
	texts := []string{seen.Name, seen.Load, seen.file}
	if about&ofState != 0 {
		texts = append(texts, seen.Active)
	}
	for _, text := range texts {
		w = appendText(w, text)
	}
	return w
}

// Foresee reads the state of some units in few calls, for Holds to look at once.
// With no names it forgets what was read.
func (m *Manager) Foresee(ctx context.Context, names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.foreseen = nil
	if len(names) > 0 {
		m.foreseen = m.glances(ctx, names)
	}
}

// Holds reports whether what a witness says of a unit is still so, and returns
// what the witness says besides. The files are looked at first: they cost no
// call.
func (m *Manager) Holds(ctx context.Context, name string, w resource.Witness) bool {
	if len(w) == 0 || m.host.Offline() {
		return false
	}
	about, glance := w[0], w[1:]
	rest := glance
	texts := 3
	if about&ofState != 0 {
		texts++
	}
	for range texts {
		var ok bool
		if _, rest, ok = cutText(rest); !ok {
			return false
		}
	}
	glance = glance[:len(glance)-len(rest)]
	for len(rest) > 0 {
		path, below, ok := cutText(rest)
		if !ok {
			return false
		}
		if rest, ok = m.host.HoldsAt(path, below); !ok {
			return false
		}
	}
	now, err := m.glance(ctx, name)
	if err != nil || now.Job != 0 || string(appendGlance(nil, about, now)) != string(glance) {
		return false
	}
	if about&ofLoaded == 0 {
		return true
	}
	needs, err := m.host.Systemd().NeedsReload(ctx, name)
	return err == nil && !needs
}

func cutText(w resource.Witness) (text string, rest resource.Witness, ok bool) {
	n, used := binary.Uvarint(w)
	if used <= 0 || n > uint64(len(w)-used) {
		return "", nil, false
	}
	end := used + int(n)
	return string(w[used:end]), w[end:], true
}

// glance is what was foreseen of a unit, for once, or what systemd says now.
func (m *Manager) glance(ctx context.Context, name string) (observed, error) {
	m.mu.Lock()
	seen, ok := m.foreseen[name]
	delete(m.foreseen, name)
	m.mu.Unlock()
	if ok {
		return seen, nil
	}
	return m.observe(ctx, name)
}
