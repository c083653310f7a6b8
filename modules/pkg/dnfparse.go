package pkg

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// parseRepoquery reads what `dnf repoquery` prints in our format.
func parseRepoquery(text string) (available, error) {
	var found available
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		f := strings.Split(line, "|")
		if len(f) != 6 || f[0] == "" || f[2] == "" {
			return nil, fmt.Errorf("cannot read package index: dnf told %.80q", line)
		}
		found = append(found, solvable{name: f[0], version: evr(f[1], f[2], f[3]), arch: anyArch(f[4]), repository: f[5]})
	}
	return found, nil
}

// The headings of the tables that dnf prints of a transaction, and what is done
// to what is below.
var dnfHeadings = []struct {
	prefix string
	verb   dnfVerb
}{
	{"Skipping packages", dnfSkips}, // one that was asked for is not among the rest
	{"Installing Groups", dnfIgnores},
	{"Installing", dnfInstalls},
	{"Upgrading", dnfInstalls},
	{"Downgrading", dnfInstalls},
	{"Reinstalling", dnfIgnores},
	{"Removing Groups", dnfIgnores},
	{"Removing", dnfRemoves},
	{"Marking packages", dnfIgnores},
	{"Enabling module", dnfIgnores},
	{"Switching module", dnfIgnores},
	{"Disabling module", dnfIgnores},
	{"Resetting module", dnfIgnores},
	{"Upgrading Groups", dnfIgnores},
}

type dnfVerb int

const (
	dnfIgnores dnfVerb = iota
	dnfInstalls
	dnfRemoves
	dnfSkips
)

// parseDnfPlan reads what dnf's shell would do. What it cannot make sense of is
// an error: a removal must not be overlooked.
func parseDnfPlan(text string, db *database) (effect, error) {
	if dnfProblem().MatchString(text) {
		return effect{}, &refusal{Reason: dnfReason(text)}
	}
	_, table, there := strings.Cut(text, "\n Package ")
	if !there {
		// Its shell says so at its end, too.
		if strings.Contains(text, "Nothing to do.") && !strings.Contains(text, "Transaction Summary") &&
			!strings.Contains(text, "Operation aborted") {
			return effect{}, nil
		}
		return effect{}, fmt.Errorf("cannot read what dnf would do:\n%s", lastLines(text, 10))
	}
	table, _, ended := strings.Cut(table, "\nTransaction Summary")
	if !ended {
		return effect{}, fmt.Errorf("cannot read what dnf would do: it does not end:\n%s", lastLines(text, 10))
	}
	p := dnfPlan{db: db}
	for i, line := range strings.Split(table, "\n") {
		if i == 0 || strings.Trim(line, "= ") == "" {
			continue // the table's own heading
		}
		if err := p.line(line); err != nil {
			return effect{}, err
		}
	}
	if err := p.row(); err != nil {
		return effect{}, err
	}
	if p.verb == dnfSkips || p.skips {
		return effect{}, &refusal{Reason: dnfReason(text)}
	}
	slices.Sort(p.effect.Removes)
	p.effect.Removes = slices.Compact(p.effect.Removes)
	return p.effect, nil
}

// A dnfPlan is a table as far as it was read. A row that is too wide is broken
// up, so it is taken as words.
type dnfPlan struct {
	db     *database
	effect effect
	begun  bool
	verb   dnfVerb
	skips  bool
	words  []string
}

func (p *dnfPlan) line(line string) error {
	words := strings.Fields(line)
	switch {
	case line[0] != ' ':
		if err := p.row(); err != nil {
			return err
		}
		for _, h := range dnfHeadings {
			if strings.HasPrefix(line, h.prefix) {
				p.begun, p.verb = true, h.verb
				p.skips = p.skips || h.verb == dnfSkips
				return nil
			}
		}
		if !p.begun {
			return nil // the rest of the table's own heading
		}
		return fmt.Errorf("cannot read what dnf would do: %q is not known", line)
	case words[0] == "replacing" && len(words) == 3 && len(p.words) > 0:
		name, _ := cutArch(words[1])
		p.effect.Removes = append(p.effect.Removes, spelled(p.db, name, words[1]))
	case len(line) > 1 && line[1] != ' ' && p.begun:
		if err := p.row(); err != nil {
			return err
		}
		p.words = words
	case p.begun:
		p.words = append(p.words, words...)
	}
	return nil
}

// row takes the words of a row for what they are.
func (p *dnfPlan) row() error {
	words := p.words
	p.words = nil
	if len(words) == 0 || p.verb == dnfIgnores || p.verb == dnfSkips {
		return nil
	}
	if len(words) < 3 {
		return fmt.Errorf("cannot read what dnf would do: %q has no version", strings.Join(words, " "))
	}
	name := spelled(p.db, words[0], words[0]+"."+words[1])
	if p.verb == dnfRemoves {
		p.effect.Removes = append(p.effect.Removes, name)
		return nil
	}
	m := move{Name: name, To: strings.TrimPrefix(words[2], "0:")}
	if have := p.db.find(name); have != nil {
		m.From = have.Version
	}
	p.effect.Installs = append(p.effect.Installs, m)
	return nil
}

// spelled is how this package calls a package that is called by name and
// name.arch elsewhere.
func spelled(db *database, name, full string) string {
	_, arch := cutArch(full)
	return db.spell(&record{Name: name, Arch: anyArch(arch)})
}

func cutArch(full string) (name, arch string) {
	if i := strings.LastIndexByte(full, '.'); i >= 0 {
		return full[:i], full[i+1:]
	}
	return full, ""
}

var (
	dnfProblem = pattern(`(?m)^(?: Problem(?: \d+)?: |Error: (?:Unable to find|Problem|There are no))`)
	dnfFailed  = pattern(`(?m)^(?:Error: |RPM: error: )(.*)`)
	// Whom dnf blames: what it could not set up, and what it could not get.
	dnfScriptlet = pattern(`(?m)^Error in (?:PREIN|PRETRANS|PREUN|PRE\w*) scriptlet in rpm package (\S+)`)
	dnfUnpacked  = pattern(`(?m)^Error unpacking rpm package (\S+)`)
	dnfFetch     = pattern(`(?m)(?:Cannot download |Package "|Error opening )([^\s":]+)`)
	dnfConflict  = pattern(`(?m)^  file \S+ (?:from install of|conflicts between attempted installs of) (\S+)`)
)

// dnfReason picks the lines of dnf's output that say why it will not, or why it
// failed.
func dnfReason(text string) string {
	var reasons []string
	problem := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, " Problem"):
			problem = true
			reasons = append(reasons, trimmed)
		case problem && strings.HasPrefix(line, "  - "):
			reasons = append(reasons, trimmed)
		case strings.HasPrefix(line, "Error"), strings.HasPrefix(line, "RPM: error"), strings.Contains(line, "filtered out by exclude"):
			problem = false
			if trimmed != "Error: Operation aborted." {
				reasons = append(reasons, strings.TrimPrefix(trimmed, "Error: "))
			}
		default:
			problem = false
		}
	}
	if len(reasons) == 0 {
		return lastLines(text, 10)
	}
	return strings.Join(slices.Compact(reasons), "; ")
}

// parseDnfFailure finds whom dnf blames; nil when it tells of no failure.
func parseDnfFailure(text string) *failure {
	if !dnfFailed().MatchString(text) && !strings.Contains(text, "\nFailed:\n") && !dnfProblem().MatchString(text) {
		return nil
	}
	f := &failure{}
	for _, form := range []*regexp.Regexp{dnfScriptlet(), dnfUnpacked()} {
		for _, m := range form.FindAllStringSubmatch(text, -1) {
			f.Culprits = append(f.Culprits, m[1])
		}
	}
	for _, m := range dnfFetch().FindAllStringSubmatch(text, -1) {
		f.Fetch = true
		f.Culprits = append(f.Culprits, nameOfNEVRA(m[1]))
	}
	for _, m := range dnfConflict().FindAllStringSubmatch(text, -1) {
		f.Culprits = append(f.Culprits, nameOfNEVRA(m[1]))
	}
	if _, list, ok := strings.Cut(text, "\nFailed:\n"); ok {
		for line := range strings.Lines(list) {
			if !strings.HasPrefix(line, "  ") {
				break
			}
			for _, word := range strings.Fields(line) {
				f.Culprits = append(f.Culprits, nameOfNEVRA(word))
			}
		}
	}
	slices.Sort(f.Culprits)
	f.Culprits = slices.Compact(f.Culprits)
	return f
}
