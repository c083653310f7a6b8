package line

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"trued.dev/trued/internal/host/shared"
	"trued.dev/trued/internal/resource"
)

// A noted is what was there of a line before it was managed.
type noted struct {
	shared.Noted
	// Had is true when the very line was there.
	Had bool `json:"had,omitempty"`
	// Old is the line that it took the place of.
	Old *string `json:"old,omitempty"`
	// Gone are lines that were removed.
	Gone []gone `json:"gone,omitempty"`
	// Wrote is what the resource put there.
	Wrote []wrote `json:"wrote,omitempty"`
}

// A wrote is a line that was written: itself or, where it is sensitive, a digest
// of it after some salt.
type wrote string

const digestMark = "\x00sha256 "

// wrote returns what is noted of the line: again what was noted, if it is of it.
func (r *Resource) wrote(before []wrote) wrote {
	if !r.Sensitive {
		return wrote(r.text())
	}
	for _, w := range before {
		if strings.HasPrefix(string(w), digestMark) && w.is(r.text()) {
			return w
		}
	}
	salt := rand.Text()
	return wrote(digestMark + salt + " " + digest(salt, r.text()))
}

func digest(salt, line string) string {
	sum := sha256.Sum256([]byte(salt + line))
	return hex.EncodeToString(sum[:])
}

// is reports whether a line is the one.
func (w wrote) is(line string) bool {
	salted, ok := strings.CutPrefix(string(w), digestMark)
	if !ok {
		return string(w) == line
	}
	salt, sum, _ := strings.Cut(salted, " ")
	return digest(salt, line) == sum
}

// in returns the number of the line in a text, or -1.
func (w wrote) in(text *shared.Text) int {
	found := text.Find(w.is)
	if len(found) == 0 {
		return -1
	}
	return found[0]
}

type gone struct {
	shared.Spot

	Text string `json:"text"`
}

// note returns the prior with what is new to it, or nil.
func (r *Resource) note(prior resource.Prior, text *shared.Text, exists bool) (resource.Prior, error) {
	var n noted
	known, err := prior.Recall(r.claim(), &n)
	if err != nil {
		return nil, err
	}
	found := r.matching(text)
	if !known && r.earlier != nil {
		n, known = *r.earlier, true
	}
	if !known {
		n.Existed, n.Open = exists, text.Open()
		switch {
		case r.absent():
			for _, i := range found {
				n.Gone = append(n.Gone, gone{shared.SpotOf(text, i, i+1), text.Line(i)})
			}
		case len(found) == 1:
			old := text.Line(found[0])
			n.Had = old == r.text()
			if !n.Had {
				n.Old = &old
			}
		default:
			n.Had = r.match == nil && len(found) > 0
		}
	}
	n.Sensitive = r.Sensitive
	if !r.absent() {
		now := []wrote{r.wrote(n.Wrote)}
		for _, old := range n.Wrote {
			if !old.is(r.text()) && old.in(text) >= 0 {
				now = append(now, old)
			}
		}
		n.Wrote = now
	}
	return prior.With(r.claim(), n)
}

// Restore takes the line away again, and gives back those that were there.
func (n *noted) Restore(text *shared.Text, _ resource.Claim) error {
	last := false
	there := map[string]bool{} // again, by somebody else
	for _, g := range n.Gone {
		there[g.Text] = there[g.Text] || text.Index(g.Text) >= 0
	}
	for _, g := range n.Gone {
		if !there[g.Text] {
			at := g.In(text)
			last = at == text.Len()
			text.Insert(at, g.Text)
		}
	}
	if last && n.Open {
		text.Unclose()
	}
	if n.Had {
		return nil
	}
	last = false
	for _, w := range n.Wrote {
		i := w.in(text)
		switch {
		case i < 0:
		case n.Old != nil:
			text.Set(i, *n.Old)
		default:
			last = last || i == text.Len()-1
			text.Delete(i, i+1)
		}
	}
	if last && n.Open {
		text.Unclose()
	}
	return nil
}
