package pkg

import "strings"

// compareAlpm orders versions as pacman's own vercmp does: epoch, version, and
// the release where both have one.
func compareAlpm(a, b string) int {
	epochA, versionA, releaseA := splitAlpm(a)
	epochB, versionB, releaseB := splitAlpm(b)
	if order := compareSegments(epochA, epochB); order != 0 {
		return order
	}
	order := compareSegments(versionA, versionB)
	if order == 0 && releaseA != "" && releaseB != "" {
		order = compareSegments(releaseA, releaseB)
	}
	return order
}

func splitAlpm(s string) (epoch, version, release string) {
	digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
	epoch, version = "0", s
	if rest, ok := strings.CutPrefix(s[digits:], ":"); ok {
		version = rest
		if digits > 0 {
			epoch = s[:digits]
		}
	}
	if i := strings.LastIndexByte(version, '-'); i >= 0 {
		version, release = version[:i], version[i+1:]
	}
	return epoch, version, release
}

// compareSegments compares runs of digits as numbers and runs of letters as
// text. A number is newer than a letter, more of a number newer than its end,
// and letters at the end, as in 1.0rc1, older than the end.
func compareSegments(a, b string) int {
	if a == b {
		return 0
	}
	for a != "" && b != "" {
		restA, restB := trimSeparators(a), trimSeparators(b)
		gapA, gapB := len(a)-len(restA), len(b)-len(restB)
		a, b = restA, restB
		if a == "" || b == "" {
			break
		}
		if gapA != gapB {
			return sign(gapA - gapB)
		}
		of := isLetter
		numbers := isDigit(a[0])
		if numbers {
			of = isDigit
		}
		lenA, lenB := run(a, of), run(b, of)
		if lenB == 0 { // one a number, the other a letter
			if numbers {
				return 1
			}
			return -1
		}
		if order := compareSegment(a[:lenA], b[:lenB], numbers); order != 0 {
			return order
		}
		a, b = a[lenA:], b[lenB:]
	}
	switch {
	case a == "" && b == "":
		return 0
	case a == "" && !isLetter(b[0]), a != "" && isLetter(a[0]):
		return -1
	default:
		return 1
	}
}

func compareSegment(a, b string, numbers bool) int {
	if numbers {
		a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
		if len(a) != len(b) {
			return sign(len(a) - len(b))
		}
	}
	return strings.Compare(a, b)
}

func trimSeparators(s string) string {
	for s != "" && !isDigit(s[0]) && !isLetter(s[0]) {
		s = s[1:]
	}
	return s
}

func run(s string, of func(byte) bool) int {
	n := 0
	for n < len(s) && of(s[n]) {
		n++
	}
	return n
}

func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}
