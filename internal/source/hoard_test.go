//go:build !race

package source_test

import (
	"strconv"
	"strings"
	"testing"
)

// The race detector takes more than a child may have, so that under it the child
// may have all.
func TestChildCannotTakeAllMemory(t *testing.T) {
	needRoot(t)
	_, said, err := runPry(t, "hoard")
	// It may be a thread that there is no memory for.
	if err == nil || !strings.Contains(said, "out of memory") && !strings.Contains(said, "create") {
		t.Fatalf("child ended with %v: %.400s", err, said)
	}
	taken := 0
	for _, line := range strings.Split(said, "\n") {
		if n, err := strconv.Atoi(line); err == nil {
			taken = n
		}
	}
	if most := 256/16 + 4; taken == 0 || taken > most {
		t.Errorf("child took %d pieces of 16 MB, want at most %d", taken, most)
	}
}
