package shared

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
)

// A Spot is a place in a text that is found again when others have changed the
// text: by the lines around it, and by its number where none of them is left.
type Spot struct {
	// At is how many lines are above it.
	At int `json:"at,omitempty"`
	// Above and Below are the lines around it, the nearest first. They are digests
	// after some salt: a line of somebody else may be a secret.
	Above []string `json:"above,omitempty"`
	Below []string `json:"below,omitempty"`
	Salt  string   `json:"salt,omitempty"`
}

// around is how many lines on each side are remembered.
const around = 3

// SpotOf returns the place of the lines from one number to before another.
func SpotOf(text *Text, from, to int) Spot {
	s := Spot{At: from, Salt: rand.Text()}
	for d := range around {
		if i := from - 1 - d; i >= 0 {
			s.Above = append(s.Above, s.digest(text.Line(i)))
		}
		if i := to + d; i < text.Len() {
			s.Below = append(s.Below, s.digest(text.Line(i)))
		}
	}
	return s
}

// In returns the number of the line before which the place is.
func (s Spot) In(text *Text) int {
	for d := range around {
		if i := s.nearest(text, s.Above, d); i >= 0 {
			return i + 1
		}
		if i := s.nearest(text, s.Below, d); i >= 0 {
			return i
		}
	}
	return min(s.At, text.Len())
}

// nearest returns the line that one of those remembered is now: of several the one
// nearest to where the place was. It is -1 for none.
func (s Spot) nearest(text *Text, of []string, d int) int {
	found := -1
	if d >= len(of) {
		return found
	}
	far := func(i int) int { return max(i-s.At, s.At-i) }
	for i := range text.Len() {
		if s.digest(text.Line(i)) == of[d] && (found < 0 || far(i) < far(found)) {
			found = i
		}
	}
	return found
}

func (s Spot) digest(line string) string {
	sum := sha256.Sum256([]byte(s.Salt + line))
	return hex.EncodeToString(sum[:8])
}
