package document

import (
	"maps"
	"slices"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Nearest returns the one of among that word was probably meant to be, or
// empty when none is near.
func Nearest(word string, among []string) string {
	best, bestAt := "", len(word)/3+2
	for _, candidate := range among {
		if diff := len(candidate) - len(word); diff >= bestAt || -diff >= bestAt || candidate == word {
			continue
		}
		at := distance(word, candidate, bestAt+1)
		if at >= len(word) {
			continue // another word altogether
		}
		if at < bestAt || at == bestAt && best != "" && candidate < best {
			best, bestAt = candidate, at
		}
	}
	return best
}

// distance is the number of letters to insert, leave out, replace or swap with
// their neighbour to get from a to b, or most when it is that or more.
func distance(a, b string, most int) int {
	var before []int
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(row[j-1]+1, last[j]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
			least = min(least, row[j])
		}
		if least >= most {
			return most
		}
		before, last = last, row
	}
	return min(last[len(b)], most)
}
