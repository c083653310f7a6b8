package shared

import "testing"

func TestASpotIsFoundAgainByTheLinesAroundIt(t *testing.T) {
	const was = "a\nb\nc\ngone\nd\ne\n"
	for name, c := range map[string]struct{ now, want string }{
		"as it was":           {"a\nb\nc\nd\ne\n", was},
		"more above":          {"x\ny\na\nb\nc\nd\ne\n", "x\ny\n" + was},
		"another above it":    {"x\na\nb\nC\nd\ne\n", "x\na\nb\nC\ngone\nd\ne\n"},
		"another below it":    {"x\na\nb\nc\nD\ne\n", "x\na\nb\nc\ngone\nD\ne\n"},
		"others on each side": {"x\ny\na\nb\nC\nD\ne\n", "x\ny\na\nb\ngone\nC\nD\ne\n"},
		"two of one line":     {"c\nx\na\nb\nc\nd\ne\nc\n", "c\nx\na\nb\nc\ngone\nd\ne\nc\n"},
		"nothing that was":    {"1\n2\n3\n4\n", "1\n2\n3\ngone\n4\n"},
		"less than was above": {"1\n", "1\ngone\n"},
	} {
		spot := SpotOf(Parse(was), 3, 4)
		text := Parse(c.now)
		text.Insert(spot.In(text), "gone")
		if got := text.String(); got != c.want {
			t.Errorf("%s: %q becomes %q, want %q", name, c.now, got, c.want)
		}
	}
}
