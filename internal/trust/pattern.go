package trust

import "strings"

// matchList reports whether s is matched by one of the patterns of a list, which
// are separated by commas, and by none that a ! stands before: OpenSSH's
// match_pattern_list.
func matchList(s, list string) bool {
	found := false
	for pattern := range strings.SplitSeq(list, ",") {
		pattern, negated := strings.CutPrefix(pattern, "!")
		if !match(s, pattern) {
			continue
		}
		if negated {
			return false
		}
		found = true
	}
	return found
}

// match knows * and ?. It takes time in proportion to the product of the lengths.
func match(s, pattern string) bool {
	// Where to take up again: the last star, and what it has swallowed so far.
	star, swallowed := -1, 0
	i, j := 0, 0
	for i < len(s) {
		switch {
		case j < len(pattern) && pattern[j] == '*':
			star, swallowed = j, i
			j++
		case j < len(pattern) && (pattern[j] == '?' || pattern[j] == s[i]):
			i++
			j++
		case star >= 0:
			swallowed++
			i, j = swallowed, star+1
		default:
			return false
		}
	}
	return strings.Trim(pattern[j:], "*") == ""
}
