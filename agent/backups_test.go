package agent

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestEveryDigestThatAModuleNotedIsNeeded(t *testing.T) {
	a, b := strings.Repeat("a1", 32), strings.Repeat("0f", 32)
	found := map[string]bool{}
	for _, note := range []string{
		`{"sha256":"` + a + `","mode":"0644"}`,
		`"` + b + `"`,
		`{"sha512":"` + a + b + `","short":"` + a[:63] + `","big":"` + strings.ToUpper(a) + `"}`,
	} {
		digestsIn([]byte(note), found)
	}
	if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, []string{b, a}) {
		t.Errorf("found %q", got)
	}
}
