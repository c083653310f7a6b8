package cron

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

var words = []string{"@reboot", "@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"}

// A field is one of the five of a schedule.
type field struct {
	name     string
	from, to int
	names    []string // of its values from the first on
}

var fields = []field{
	{name: "minute", to: 59},
	{name: "hour", to: 23},
	{name: "day of the month", from: 1, to: 31},
	{name: "month", from: 1, to: 12, names: strings.Fields("jan feb mar apr may jun jul aug sep oct nov dec")},
	{name: "day of the week", to: 7, names: strings.Fields("sun mon tue wed thu fri sat")},
}

// scheduleProblem says what is wrong with a schedule; "" for a good one.
func scheduleProblem(text string) string {
	if strings.HasPrefix(text, "@") {
		if !slices.Contains(words, text) {
			return fmt.Sprintf("%q is none of %s", text, strings.Join(words, ", "))
		}
		return ""
	}
	if strings.ContainsAny(text, "\r\n\x00") {
		return "has more than one line"
	}
	given := strings.Fields(text)
	if len(given) != len(fields) {
		return fmt.Sprintf("%q has %d fields, not five: minute, hour, day of the month, month and day of the week, such as \"30 2 * * 1-5\"",
			text, len(given))
	}
	for i, f := range fields {
		if p := f.problem(given[i]); p != "" {
			return fmt.Sprintf("%q: %s", text, p)
		}
	}
	return ""
}

// problem judges a list of values, each of which may be a range with a step.
func (f field) problem(text string) string {
	for part := range strings.SplitSeq(text, ",") {
		span, step, stepped := strings.Cut(part, "/")
		low, high, ranged := strings.Cut(span, "-")
		from, to := f.from, f.to
		if span != "*" {
			var p string
			if from, p = f.number(low); p != "" {
				return p
			}
			if to = from; ranged {
				if to, p = f.number(high); p != "" {
					return p
				}
			}
		}
		switch {
		case to < from:
			return fmt.Sprintf("the %s %q ends before it begins: write %s-%d,%d-%s", f.name, span, low, f.last(), f.from, high)
		case !stepped:
			continue
		case span != "*" && !ranged:
			return fmt.Sprintf("the %s %q repeats no range: write %s-%d/%s", f.name, part, low, f.last(), step)
		}
		if n, err := strconv.Atoi(step); err != nil || n < 1 || n > f.to || strings.Trim(step, "0123456789") != "" {
			return fmt.Sprintf("%q is not a step for the %s", step, f.name)
		}
	}
	return ""
}

// last is the last value that is told in advice: 7 is a second name of Sunday.
func (f field) last() int {
	if f.to == 7 {
		return 6
	}
	return f.to
}

func (f field) number(text string) (n int, problem string) {
	if i := slices.Index(f.names, strings.ToLower(text)); i >= 0 {
		return f.from + i, ""
	}
	n, err := strconv.Atoi(text)
	if err != nil || strings.Trim(text, "0123456789") != "" || n < f.from || n > f.to {
		known := fmt.Sprintf("%d to %d", f.from, f.to)
		if f.names != nil {
			known += fmt.Sprintf(", %s to %s", f.names[0], f.names[len(f.names)-1])
		}
		return 0, fmt.Sprintf("%q is not a %s: it goes from %s", text, f.name, known)
	}
	return n, ""
}
