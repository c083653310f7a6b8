package pkg

import (
	"errors"
	"fmt"
	"strconv"
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
	versionForm   = pattern(`^(\d+:)?\d[A-Za-z0-9.+~]*(-[A-Za-z0-9.+~-]*[A-Za-z0-9.+~])?$`)
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
		bound, ok := pessimistic(c.operand)
		return order >= 0 && (!ok || compare(version, bound) < 0)
	}
}

// pessimistic returns the first version that `~> operand` no longer takes: the
// last number may grow, the one before it may not. It begins with the next
// number's earliest pre-release. With one number alone there is no such bound.
func pessimistic(operand string) (string, bool) {
	epoch, rest, has := strings.Cut(operand, ":")
	if !has {
		epoch, rest = "", operand
	} else {
		epoch += ":"
	}
	numbers := strings.Split(rest, ".")
	if len(numbers) < 2 {
		return "", false
	}
	numbers = numbers[:len(numbers)-1]
	last := len(numbers) - 1
	n, err := strconv.ParseUint(numbers[last], 10, 63)
	if err != nil {
		return "", false
	}
	numbers[last] = strconv.FormatUint(n+1, 10)
	return epoch + strings.Join(numbers, ".") + "~~", true
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
