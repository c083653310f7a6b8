package pkg

import (
	"errors"
	"strings"
	"sync/atomic"

	"trued.dev/trued/internal/host"
)

// missed is what the last refresh of an index could not fetch of it. apt calls
// that a success when it has an older one, or can do without.
type missed struct{ text atomic.Value }

// note takes what a refresh printed.
func (m *missed) note(output string) { m.text.Store(strings.Join(fetchFaults(output), "; ")) }

// Missed returns what was missed, in one line; empty for nothing.
func (m *missed) Missed() string {
	text, _ := m.text.Load().(string)
	return text
}

// fetchFaults returns what apt finds wrong with repositories: what it could not
// fetch, each with the reason on a line below, and its errors.
func fetchFaults(output string) []string {
	var faults []string
	open := false
	for line := range strings.Lines(output) {
		words := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "Err:") && len(words) > 1:
			faults = append(faults, strings.Join(words[1:], " "))
			open = true
			continue
		case strings.HasPrefix(line, "E: "):
			faults = append(faults, strings.Join(words[1:], " "))
		case open && strings.HasPrefix(line, "  "):
			faults[len(faults)-1] += ": " + strings.Join(words, " ")
		}
		open = false
	}
	return faults
}

// shortened leaves of a refresh's output what is wrong, where apt says so.
func shortened(err error, output string) error {
	var failed *host.CommandError
	if faults := fetchFaults(output); len(faults) > 0 && errors.As(err, &failed) {
		return &host.CommandError{Args: failed.Args, Output: strings.Join(faults, "; "), Err: failed.Err}
	}
	return err
}
