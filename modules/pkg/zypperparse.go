package pkg

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// A zypperElement is one of the elements that zypper answers with, as far as
// they are of use.
type zypperElement struct {
	parent string // the element that it is in
	name   string
	attr   map[string]string
}

// zypperElements reads an answer to its end; one that is cut off is an error.
func zypperElements(text string, each func(e zypperElement) error) error {
	d := xml.NewDecoder(strings.NewReader(text))
	var open []string
	seen := false
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && seen {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot read zypper's answer: %w", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			e := zypperElement{name: token.Name.Local, attr: map[string]string{}}
			if len(open) > 0 {
				e.parent = open[len(open)-1]
			}
			for _, a := range token.Attr {
				e.attr[a.Name.Local] = a.Value
			}
			if err := each(e); err != nil {
				return err
			}
			open = append(open, e.name)
			seen = true
		case xml.EndElement:
			open = open[:len(open)-1]
		}
	}
}

// parseZypperSearch reads what `zypper --xmlout search -s` prints. What is
// installed and in no repository cannot be had.
func parseZypperSearch(text string) (available, error) {
	var found available
	err := zypperElements(text, func(e zypperElement) error {
		if e.name != "solvable" || e.parent != "solvable-list" || e.attr["repository"] == "(System Packages)" {
			return nil
		}
		if e.attr["name"] == "" || e.attr["edition"] == "" {
			return errors.New("cannot read zypper's answer: a package has no name or no version")
		}
		found = append(found, solvable{
			name: e.attr["name"], version: withoutZero(e.attr["edition"]), arch: anyArch(e.attr["arch"]), repository: e.attr["repository"],
		})
		return nil
	})
	return found, err
}

func withoutZero(version string) string { return strings.TrimPrefix(version, "0:") }

// parseZypperPlan reads what `zypper --xmlout install --dry-run` prints.
func parseZypperPlan(text string, db *database) (effect, error) {
	var e effect
	known := false
	err := zypperElements(text, func(x zypperElement) error {
		switch {
		case x.name == "install-summary":
			known = true
		case x.name != "solvable" || x.attr["type"] != "package" || !strings.HasPrefix(x.parent, "to-"):
		case x.attr["name"] == "":
			return errors.New("cannot read zypper's answer: a package has no name")
		case x.parent == "to-remove":
			e.Removes = append(e.Removes, db.spell(&record{Name: x.attr["name"], Arch: anyArch(x.attr["arch"])}))
		case x.parent == "to-reinstall":
		default:
			m := move{Name: db.spell(&record{Name: x.attr["name"], Arch: anyArch(x.attr["arch"])}), To: withoutZero(x.attr["edition"])}
			m.From = withoutZero(x.attr["edition-old"])
			e.Installs = append(e.Installs, m)
		}
		return nil
	})
	if err == nil && !known && !strings.Contains(text, "Nothing to do") {
		err = fmt.Errorf("cannot read what zypper would do:\n%s", lastLines(text, 10))
	}
	slices.Sort(e.Removes)
	e.Removes = slices.Compact(e.Removes)
	return e, err
}

var (
	zypperProblem  = pattern(`(?ms)Problem: (.*?)^ Solution `)
	zypperMessage  = pattern(`(?s)<message type="error">(.*?)</message>`)
	zypperBroken   = pattern(`(?m)^(?:Installation|Removal) of (\S+) failed:`)
	zypperFetch    = pattern(`(?m)(?:File '(?:\./)?|Failed to provide Package |Can't provide file '(?:\./)?)([^\s']+)`)
	zypperConflict = pattern(`(?m)^File \S+\s+from install of\s+(\S+)`)
)

// zypperReason picks the words of zypper that say why it will not, or why it
// failed.
func zypperReason(text string) string {
	var reasons []string
	for _, form := range []*regexp.Regexp{zypperProblem(), zypperMessage()} {
		for _, m := range form.FindAllStringSubmatch(text, -1) {
			reasons = append(reasons, strings.Join(strings.Fields(xmlText(m[1])), " "))
		}
	}
	// What would have to go is said by its own proposals.
	for line := range strings.Lines(text) {
		if _, proposal, ok := strings.Cut(line, " deinstallation of "); ok && strings.Contains(line, "Solution") {
			reasons = append(reasons, "that would remove "+strings.TrimSpace(xmlText(proposal)))
		}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "error: ") || zypperBroken().MatchString(line) || strings.HasPrefix(line, "System management is locked") {
			reasons = append(reasons, strings.TrimPrefix(line, "error: "))
		}
	}
	if len(reasons) == 0 {
		return lastLines(text, 10)
	}
	return strings.Join(slices.Compact(reasons), "; ")
}

func xmlText(s string) string {
	return strings.NewReplacer("&apos;", "'", "&quot;", `"`, "&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(s)
}

// parseZypperFailure finds whom zypper blames.
func parseZypperFailure(text string) *failure {
	f := &failure{}
	for _, m := range zypperBroken().FindAllStringSubmatch(text, -1) {
		f.Culprits = append(f.Culprits, nameOfNEVRA(m[1]))
	}
	for _, m := range zypperFetch().FindAllStringSubmatch(text, -1) {
		f.Fetch = true
		f.Culprits = append(f.Culprits, nameOfNEVRA(m[1]))
	}
	for _, m := range zypperConflict().FindAllStringSubmatch(text, -1) {
		f.Culprits = append(f.Culprits, nameOfNEVRA(m[1]))
	}
	slices.Sort(f.Culprits)
	f.Culprits = slices.Compact(f.Culprits)
	return f
}
