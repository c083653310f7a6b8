package calendar

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// shorthands are what words for a whole expression stand for.
var shorthands = map[string]string{
	"minutely": "*-*-* *:*:00", "hourly": "*-*-* *:00:00", "daily": "*-*-* 00:00:00",
	"weekly": "Mon *-*-* 00:00:00", "monthly": "*-*-01 00:00:00", "quarterly": "*-01,04,07,10-01 00:00:00",
	"yearly": "*-01-01 00:00:00", "annually": "*-01-01 00:00:00", "semiannually": "*-01,07-01 00:00:00",
	"semi-annually": "*-01,07-01 00:00:00", "biannually": "*-01,07-01 00:00:00", "bi-annually": "*-01,07-01 00:00:00",
}

const shorthandsShown = "minutely, hourly, daily, weekly, monthly, quarterly, yearly"

const zoneLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-"

// isZone reports whether a word looks like the name of a time zone. Whether there
// is one of that name is another question.
func isZone(word string) bool {
	for part := range strings.SplitSeq(word, "/") {
		if part == "" || strings.Trim(part, zoneLetters) != "" {
			return false
		}
	}
	_, short := shorthands[strings.ToLower(word)]
	return isLetter(word[0]) && !short
}

// Parse reads a calendar expression. Whether there is the time zone that it may
// end with is found by Next, since it may be that of another machine.
func Parse(text string) (*Expression, error) {
	rest := strings.TrimSpace(text)
	if rest == "" {
		return nil, fmt.Errorf("is empty: write when to run, such as daily, Mon..Fri 02:30 or *-*-01 04:00:00")
	}
	e := &Expression{text: text}
	if i := strings.LastIndexByte(rest, ' '); i > 0 && isZone(rest[i+1:]) {
		e.Zone = rest[i+1:]
		rest = strings.TrimSpace(rest[:i])
	}
	if full, ok := shorthands[strings.ToLower(rest)]; ok {
		rest = full
	}
	if seconds, ok := strings.CutPrefix(rest, "@"); ok {
		at, err := strconv.ParseFloat(seconds, 64)
		if err != nil || strings.Trim(seconds, "0123456789.") != "" || at > lastSecond {
			return nil, fmt.Errorf("%q is not a number of seconds since 1970 after the @", text)
		}
		whole, part := math.Modf(at)
		e.at = time.Unix(int64(whole), int64(part*1e6)*1000).UTC()
		return e, nil
	}
	p := &parser{text: text, words: strings.Fields(rest), to: e}
	p.parse()
	if p.problem != "" {
		return nil, fmt.Errorf("%s", p.problem)
	}
	return e, nil
}

// A parser reads an expression word by word.
type parser struct {
	text    string
	words   []string
	problem string
	to      *Expression
}

func (p *parser) wrong(format string, args ...any) {
	if p.problem == "" {
		p.problem = fmt.Sprintf("%q is not a calendar expression: ", p.text) + fmt.Sprintf(format, args...)
	}
}

// parse takes the weekdays, a date and a time off, each of which may be missing.
func (p *parser) parse() {
	if w := p.next(); w != "" && isLetter(w[0]) {
		p.weekdays(w)
		p.words = p.words[1:]
	}
	if w := p.next(); w != "" && !strings.Contains(w, ":") {
		p.date(w)
		p.words = p.words[1:]
	}
	w := p.next()
	if w != "" {
		p.time(w)
		p.words = p.words[1:]
	}
	if w == "" && p.problem == "" {
		p.to.hour, p.to.minute, p.to.micro = one(0), one(0), one(0)
	}
	if len(p.words) > 0 {
		p.wrong("%q is too much after weekdays, date and time", p.words[0])
	}
}

func (p *parser) next() string {
	if len(p.words) == 0 || p.problem != "" {
		p.words = nil
		return ""
	}
	return p.words[0]
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

var weekdays = []string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}

func (p *parser) weekdays(word string) {
	for part := range strings.SplitSeq(strings.TrimSuffix(word, ","), ",") {
		from, to, ranged := strings.Cut(strings.Replace(part, "-", "..", 1), "..")
		days := []string{from}
		if ranged {
			days = append(days, to)
		}
		numbers := make([]int, len(days))
		for i, day := range days {
			numbers[i] = slices.IndexFunc(weekdays, func(d string) bool {
				return strings.EqualFold(day, d) || strings.EqualFold(day, d[:3])
			})
			if numbers[i] < 0 {
				p.wrong("%q is neither a weekday, such as Mon or Sat..Sun, nor %s", day, shorthandsShown)
				return
			}
		}
		first, last := numbers[0], numbers[len(numbers)-1]
		if last < first {
			p.wrong("%q ends before it begins: the week begins on Monday", part)
		}
		for d := first; d <= last; d++ {
			p.to.weekdays[(d+1)%7] = true
			p.to.someDays = true
		}
	}
}

// date takes YEAR-MONTH-DAY or MONTH-DAY; a ~ before the day counts from the end
// of the month.
func (p *parser) date(word string) {
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
		p.to.year = p.list(parts[0], component{name: "year", from: 1970, to: lastYear, year: true})
		parts = parts[1:]
	}
	last := 31
	if fromEnd {
		last = 28
	}
	p.to.month = p.list(parts[0], component{name: "month", from: 1, to: 12})
	p.to.fromEnd = fromEnd
	p.to.day = p.list(parts[1], component{name: "day", from: 1, to: last})
}

// time takes HOUR:MINUTE or HOUR:MINUTE:SECOND.
func (p *parser) time(word string) {
	parts := strings.Split(word, ":")
	if len(parts) != 2 && len(parts) != 3 {
		p.wrong("%q is not a time such as 02:30 or 02:30:15", word)
		return
	}
	p.to.hour = p.list(parts[0], component{name: "hour", to: 23})
	p.to.minute = p.list(parts[1], component{name: "minute", to: 59})
	p.to.micro = one(0)
	if len(parts) == 3 {
		p.to.micro = p.list(parts[2], component{name: "second", to: 59, fraction: true})
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
// Seconds are in microseconds.
func (p *parser) list(text string, c component) []span {
	scale := 1.0
	if c.fraction {
		scale = 1e6
	}
	if text == "*" {
		if c.fraction {
			return []span{{from: 0, to: -1, every: 1e6}}
		}
		return nil
	}
	var spans []span
	for part := range strings.SplitSeq(text, ",") {
		ends, every, repeated := strings.Cut(part, "/")
		low, high, ranged := strings.Cut(ends, "..")
		start := p.number(low, c)
		s := span{from: whole(start * scale), to: -1}
		if ranged {
			stop := p.number(high, c)
			if stop < start {
				p.wrong("%q ends before it begins", ends)
			}
			s.to, s.every = whole(stop*scale), whole(scale)
		}
		if !repeated || p.problem != "" {
			spans = append(spans, s)
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
		s.every = whole(step * scale)
		spans = append(spans, s)
	}
	return spans
}

func whole(n float64) int { return int(math.Round(n)) }

func one(n int) []span { return []span{{from: n, to: -1}} }

func (p *parser) number(text string, c component) float64 {
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
