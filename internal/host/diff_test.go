package host

import (
	"testing"

	"github.com/aymanbagabas/go-udiff"
)

func TestTheDifferenceFromNothingIsThatOfALineByLineComparison(t *testing.T) {
	for _, now := range []string{"", "\n", "a", "a\n", "a\nb", "a\n\n\nb\nc\n\n"} {
		want, err := udiff.ToUnified("/x", "/x", "", udiff.Lines("", now), diffContext)
		if err != nil {
			t.Fatal(err)
		}
		got := DiffText(FieldContent, "/x", Text{}, Text{Data: []byte(now), Size: int64(len(now))})
		if got.Unified != want {
			t.Errorf("%q: %q, want %q", now, got.Unified, want)
		}
	}
}
