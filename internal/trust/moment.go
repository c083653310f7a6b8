package trust

import (
	"fmt"
	"strings"
	"time"
)

// parseMoment reads a time as allowed_signers(5) has it: YYYYMMDD, YYYYMMDDHHMM
// or YYYYMMDDHHMMSS, in the host's own zone unless Z or UTC follows.
func parseMoment(s string, zone *time.Location) (time.Time, error) {
	digits := s
	for _, suffix := range []string{"Z", "UTC"} {
		if n := len(s) - len(suffix); n > 0 && strings.EqualFold(s[n:], suffix) {
			digits, zone = s[:n], time.UTC
			break
		}
	}
	var parts [6]int
	widths := [...]int{4, 2, 2, 2, 2, 2}
	switch len(digits) {
	case 8, 12, 14:
	default:
		return time.Time{}, fmt.Errorf("%q is no time: write YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, with a Z for UTC", s)
	}
	for i, rest := 0, digits; rest != ""; i++ {
		for _, c := range []byte(rest[:widths[i]]) {
			if c < '0' || c > '9' {
				return time.Time{}, fmt.Errorf("%q is no time: it has a %q", s, c)
			}
			parts[i] = 10*parts[i] + int(c-'0')
		}
		rest = rest[widths[i]:]
	}
	// A second may be a leap second, and the 31st of any month becomes the first
	// of the next one, as for ssh-keygen.
	if parts[1] < 1 || parts[1] > 12 || parts[2] < 1 || parts[2] > 31 || parts[3] > 23 || parts[4] > 59 || parts[5] > 61 {
		return time.Time{}, fmt.Errorf("%q is no time: there is no such date", s)
	}
	t := time.Date(parts[0], time.Month(parts[1]), parts[2], parts[3], parts[4], parts[5], 0, zone)
	if t.Unix() < 0 {
		return time.Time{}, fmt.Errorf("%q is before 1970", s)
	}
	return t, nil
}
