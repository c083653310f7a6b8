package torture_test

import (
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// seed is what all random moments come from: TORTURE_SEED, or always the same.
func seed() uint64 {
	n, err := strconv.ParseUint(os.Getenv("TORTURE_SEED"), 10, 64)
	if err != nil {
		return 1
	}
	return n
}

// dice are a round's own, so that one round can be repeated without those
// before it.
func dice(what string, round int) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(what))
	return rand.New(rand.NewPCG(seed(), h.Sum64()+uint64(round)))
}

// figure prints a number that `make torture` gathers at its end.
func figure(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Logf("FIGURE "+format, args...)
}
