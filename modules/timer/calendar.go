package timer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

var shorthands = []string{
	"minutely", "hourly", "daily", "weekly", "monthly", "quarterly", "yearly", "annually",
	"semiannually", "semi-annually", "biannually", "bi-annually",
}

func isShorthand(word string) bool { return slices.Contains(shorthands, strings.ToLower(word)) }

// isZone reports whether a word looks like the name of a time zone. Whether there
// is one of that name only the host can tell.
func isZone(word string) bool {
	for part := range strings.SplitSeq(word, "/") {
		if part == "" || strings.Trim(part, variableLetters+"+-") != "" {
			return false
		}
	}
	return isLetter(word[0]) && !isShorthand(word)
}

// calendarProblem says what is wrong with a calendar expression of systemd; ""
// for a good one.
func calendarProblem(text string) string {
	rest := strings.TrimSpace(text)
	if rest == "" {
		return "is empty: write when to run, such as daily, Mon..Fri 02:30 or *-*-01 04:00:00"
	}
	if i := strings.LastIndexByte(rest, ' '); i > 0 && isZone(rest[i+1:]) {
		rest = strings.TrimSpace(rest[:i])
	}
	if isShorthand(rest) {
		return ""
	}
	if seconds, ok := strings.CutPrefix(rest, "@"); ok {
		if _, err := strconv.ParseFloat(seconds, 64); err != nil {
			return fmt.Sprintf("%q is not a number of seconds since 1970 after the @", text)
		}
		return ""
	}
	p := &calendar{text: text, words: strings.Fields(rest)}
	p.parse()
	return p.problem
}

// A calendar is a calendar expression that is being read, word by word.
type calendar struct {
	text    string
	words   []string
	problem string
}

func (p *calendar) wrong(format string, args ...any) {
	if p.problem == "" {
		p.problem = fmt.Sprintf("%q is not a calendar expression: ", p.text) + fmt.Sprintf(format, args...)
	}
}

// parse takes the weekdays, a date and a time off, each of which may be missing.
func (p *calendar) parse() {
	if w := p.next(); w != "" && isLetter(w[0]) {
		p.weekdays(w)
		p.words = p.words[1:]
	}
	if w := p.next(); w != "" && !strings.Contains(w, ":") {
		p.date(w)
		p.words = p.words[1:]
	}
	if w := p.next(); w != "" {
		p.time(w)
		p.words = p.words[1:]
	}
	if len(p.words) > 0 {
		p.wrong("%q is too much after weekdays, date and time", p.words[0])
	}
}

func (p *calendar) next() string {
	if len(p.words) == 0 || p.problem != "" {
		p.words = nil
		return ""
	}
	return p.words[0]
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

var weekdays = []string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}

func (p *calendar) weekdays(word string) {
	for part := range strings.SplitSeq(strings.TrimSuffix(word, ","), ",") {
		from, to, ranged := strings.Cut(strings.Replace(part, "-", "..", 1), "..")
		days := []string{from}
		if ranged {
			days = append(days, to)
		}
		for _, day := range days {
			if !slices.ContainsFunc(weekdays, func(d string) bool {
				return strings.EqualFold(day, d) || strings.EqualFold(day, d[:3])
			}) {
				p.wrong("%q is neither a weekday, such as Mon or Sat..Sun, nor %s", day, strings.Join(shorthands[:7], ", "))
			}
		}
	}
}

// date takes YEAR-MONTH-DAY or MONTH-DAY; a ~ before the day counts from the end
// of the month.
func (p *calendar) date(word string) {
	head, day, fromEnd := strings.Cut(word, "~")
	parts := strings.Split(head, "-")
	if fromEnd {
		parts = append(parts, day)
	}
	if len(parts) != 2 && len(parts) != 3 {
		p.wrong("%q is neither a date, such as *-*-01, nor a time, such as 02:30", word)
		return
	}
	if len(parts) == 3 {
		p.list(parts[0], component{name: "year", from: 1970, to: 2199, year: true})
		parts = parts[1:]
	}
	last := 31
	if fromEnd {
		last = 28
	}
	p.list(parts[0], component{name: "month", from: 1, to: 12})
	p.list(parts[1], component{name: "day", from: 1, to: last})
}

// time takes HOUR:MINUTE or HOUR:MINUTE:SECOND.
func (p *calendar) time(word string) {
	parts := strings.Split(word, ":")
	if len(parts) != 2 && len(parts) != 3 {
		p.wrong("%q is not a time such as 02:30 or 02:30:15", word)
		return
	}
	p.list(parts[0], component{name: "hour", to: 23})
	p.list(parts[1], component{name: "minute", to: 59})
	if len(parts) == 3 {
		p.list(parts[2], component{name: "second", to: 59, fraction: true})
	}
}

// A component is one number of a date or time.
type component struct {
	name     string
	from, to int
	year     bool // of two digits, too
	fraction bool
}

// end is the last number that there is.
func (c component) end() float64 {
	if c.fraction {
		return float64(c.to) + 0.999999
	}
	return float64(c.to)
}

// list takes `*`, or numbers with commas between, each of which may be a range
// and be repeated: 1,3..5,10/2.
func (p *calendar) list(text string, c component) {
	if text == "*" {
		return
	}
	for part := range strings.SplitSeq(text, ",") {
		span, every, repeated := strings.Cut(part, "/")
		low, high, ranged := strings.Cut(span, "..")
		start := p.number(low, c)
		if ranged {
			if stop := p.number(high, c); stop < start {
				p.wrong("%q ends before it begins", span)
			}
		}
		if !repeated || p.problem != "" {
			continue
		}
		step, err := strconv.ParseFloat(every, 64)
		switch {
		case err != nil || strings.Trim(every, "0123456789.") != "" || !c.fraction && strings.Contains(every, "."):
			p.wrong("%q is not a number to repeat the %s by", every, c.name)
		case step == 0:
			p.wrong("a %s is not repeated by 0", c.name)
		case step > c.end()-start:
			p.wrong("%q never repeats within a %s", part, c.name)
		}
	}
}

func (p *calendar) number(text string, c component) float64 {
	whole, _, fraction := strings.Cut(text, ".")
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || fraction && !c.fraction || strings.Trim(text, "0123456789.") != "" || whole == "" {
		hint := ""
		if text == "*" || strings.HasPrefix(text, "*") {
			hint = ": in a list or with / write numbers, such as 0/5"
		}
		p.wrong("%q is not a %s%s", text, c.name, hint)
		return 0
	}
	if c.year && n < 100 {
		n += 1900
		if n < 1970 {
			n += 100
		}
	}
	if n < float64(c.from) || n > c.end() {
		p.wrong("%s is between %d and %d, not %s", c.article(), c.from, c.to, text)
	}
	return n
}

func (c component) article() string {
	if c.name == "hour" {
		return "an hour"
	}
	return "a " + c.name
}
