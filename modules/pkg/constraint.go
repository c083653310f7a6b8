package pkg

import (
	"errors"
	"fmt"
	"strings"
)

// A constraint is a list of conditions on a version that must all hold, such as
// ">= 1.22, < 2". The operators are those of hashicorp/go-version, the order is
// the package manager's.
type constraint []condition

type condition struct {
	op      string
	operand string
}

var (
	conditionForm = pattern(`^(=|!=|>|<|>=|<=|~>)?\s*([^\s=!<>~,][^\s,]*)$`)
	versionForm   = pattern(`^(\d+:)?\d[A-Za-z0-9.+~^_]*(-[A-Za-z0-9.+~^_-]*[A-Za-z0-9.+~^_])?$`)
	numbersForm   = pattern(`^(\d+:)?\d+(\.\d+)*$`)
)

// parseConstraint reads a list of conditions; an empty text is one that always
// holds.
func parseConstraint(text string) (constraint, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var c constraint
	for part := range strings.SplitSeq(text, ",") {
		match := conditionForm().FindStringSubmatch(strings.TrimSpace(part))
		if match == nil {
			return nil, fmt.Errorf("%q is not a condition: write an operator (=, !=, >, >=, <, <=, ~>) and a version, such as \">= 1.22, < 2\"",
				strings.TrimSpace(part))
		}
		op, operand := match[1], match[2]
		if op == "" {
			op = "="
		}
		if !versionForm().MatchString(operand) {
			return nil, fmt.Errorf("%q is not a version", operand)
		}
		if op == "~>" && !numbersForm().MatchString(operand) {
			return nil, fmt.Errorf("~> needs numbers with dots between, not %q", operand)
		}
		c = append(c, condition{op: op, operand: operand})
	}
	return c, nil
}

// holds reports whether a version meets all conditions. An operand without a
// revision leaves the version's revision out of the comparison.
func (c constraint) holds(compare func(a, b string) int, version string) bool {
	for _, cond := range c {
		if !cond.holds(compare, version) {
			return false
		}
	}
	return true
}

func (c condition) holds(compare func(a, b string) int, version string) bool {
	if !strings.Contains(c.operand, "-") {
		version = withoutRevision(version)
	}
	order := compare(version, c.operand)
	switch c.op {
	case "=":
		return order == 0
	case "!=":
		return order != 0
	case ">":
		return order > 0
	case ">=":
		return order >= 0
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	default: // ~>
		return order >= 0 && c.sameSeries(version)
	}
}

// sameSeries reports whether a version has the numbers of a `~>` operand, but for
// the last, which may grow. It looks at numbers alone, for managers differ in
// what comes before a release.
func (c condition) sameSeries(version string) bool {
	want := numbersOf(c.operand)
	have := numbersOf(version)
	want = want[:len(want)-1]
	if len(want) == 0 {
		return true
	}
	if epochOf(c.operand) != epochOf(version) {
		return false
	}
	for i, n := range want {
		if i >= len(have) && n != "" || i < len(have) && have[i] != n {
			return false
		}
	}
	return true
}

// numbersOf returns the numbers with dots between that a version begins with,
// behind its epoch and without leading zeros.
func numbersOf(version string) []string {
	if _, rest, has := strings.Cut(version, ":"); has {
		version = rest
	}
	if i := strings.IndexFunc(version, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }); i >= 0 {
		version = version[:i]
	}
	numbers := strings.Split(version, ".")
	for i, n := range numbers {
		numbers[i] = strings.TrimLeft(n, "0")
	}
	return numbers
}

func withoutRevision(version string) string {
	if i := strings.LastIndexByte(version, '-'); i >= 0 {
		return version[:i]
	}
	return version
}

func epochOf(version string) string {
	epoch, _, has := strings.Cut(version, ":")
	if !has {
		return "0"
	}
	return epoch
}

// epochRemark says that a version has an epoch and a condition has none, in
// which case it is hardly compared as the author meant.
func (c constraint) epochRemark(version string) string {
	epoch := epochOf(version)
	if epoch == "0" {
		return ""
	}
	for _, cond := range c {
		if epochOf(cond.operand) == "0" {
			return fmt.Sprintf("version %s has an epoch and the constraint %q has none: write \"%s %s:%s\" if that is what is meant",
				version, cond.op+" "+cond.operand, cond.op, epoch, cond.operand)
		}
	}
	return ""
}

// best returns the newest of versions that meets the constraint, and the
// candidate before any other; empty when there is none.
func (c constraint) best(compare func(a, b string) int, o offer) string {
	if o.Candidate != "" && c.holds(compare, o.Candidate) {
		return o.Candidate
	}
	best := ""
	for _, v := range o.Versions {
		if c.holds(compare, v) && (best == "" || compare(v, best) > 0) {
			best = v
		}
	}
	return best
}

var errNoSuchPackage = errors.New("the package index does not know it, or a pin forbids it")
