package block

import (
	"trued.dev/trued/internal/host/shared"
	"trued.dev/trued/internal/resource"
)

// A noted is what was there of a block before it was managed.
type noted struct {
	shared.Noted
	shared.Spot // of the block

	// Had tells whether the block was there, with these lines.
	Had   bool     `json:"had,omitempty"`
	Lines []string `json:"lines,omitempty"`
	// Marks are the lines that mark the block.
	Marks *[2]string `json:"marks,omitempty"`
}

// note returns the prior with what is new to it, or nil.
func (r *Resource) note(prior resource.Prior, text *shared.Text, exists bool) (resource.Prior, error) {
	var n noted
	known, err := prior.Recall(r.claim(), &n)
	if err != nil {
		return nil, err
	}
	m := r.marks()
	if !known {
		n.Existed, n.Open = exists, text.Open()
		from, to, err := m.find(text)
		if err == nil && from >= 0 {
			n.Had, n.Spot = true, shared.SpotOf(text, from, to+1)
			for i := from + 1; i < to; i++ {
				n.Lines = append(n.Lines, text.Line(i))
			}
		}
	}
	if n.Marks != nil && *n.Marks != [2]string{m.begin, m.end} {
		old := marks{n.Marks[0], n.Marks[1]}
		if from, _, err := old.find(text); err == nil && from >= 0 {
			return prior.With(r.claim(), n) // until it has moved
		}
	}
	n.Marks, n.Sensitive = &[2]string{m.begin, m.end}, r.Sensitive
	return prior.With(r.claim(), n)
}

// Restore takes the block away again, or gives back the one that was there.
func (n *noted) Restore(text *shared.Text, _ resource.Claim) error {
	if n.Marks == nil {
		return nil
	}
	m := marks{n.Marks[0], n.Marks[1]}
	from, to, err := m.find(text)
	if err != nil {
		return err
	}
	if n.Had {
		earlier := &Resource{lines: n.Lines}
		if from >= 0 {
			return earlier.replace(text, from, to)
		}
		at := n.In(text)
		last := at == text.Len()
		text.Insert(at, append(append([]string{m.begin}, n.Lines...), m.end)...)
		if last && n.Open {
			text.Unclose()
		}
		return nil
	}
	if from < 0 {
		return nil
	}
	last := to == text.Len()-1
	text.Delete(from, to+1)
	if last && n.Open {
		text.Unclose()
	}
	return nil
}
