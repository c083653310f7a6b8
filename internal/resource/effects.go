package resource

import (
	"context"
	"maps"
	"slices"
)

// What follows is what a resource does to a host beyond its claims, for rules
// that limit it. A rule is about what is stated here, so it is stated in full: a
// host under such rules refuses what was not.

// A Writer is a Resource that says what it writes. Of one that does not, the
// claims on paths are taken, each with all that may be below it.
type Writer interface {
	Writes() []Write
}

// A Write is a path that a resource makes, changes or removes.
type Write struct {
	// Path is cleaned and absolute.
	Path string
	// Content is what a file will hold; nil where that is not known beforehand.
	Content *Content
	// Owner, Group and Mode are set where they are given.
	Owner, Group string
	Mode         Mode
	// Target is what a link, or a mount of another directory, will lead to.
	Target string
	// Follow is true when what a link at the path leads to is written.
	Follow bool
	// Tree is true when what is below the path may be changed, replaced, hidden or
	// removed as well.
	Tree bool
	// Directory is true for a directory itself.
	Directory bool
	// Absent is true for what is removed.
	Absent bool
	// Stated is true where the resource is a Runner and Runs says all that a unit
	// file, or a file of SSH, has run.
	Stated bool
	// Implied is true for what comes with another claim, such as the links that
	// enable a unit: rules are about that claim, and not about the path.
	Implied bool
}

// A Runner is a Resource that has programs run, now or later.
type Runner interface {
	Runs() []Program
}

// A Program is what a Runner has run: arguments, or a text of shell. Without
// either it is something that cannot be told.
type Program struct {
	// By is the attribute, such as "validate".
	By    string
	Argv  []string
	Shell string
	// User is whom it is run as; empty for the agent's own user.
	User string
	// With is what it is given besides, and may make something else of it: "env
	// A=b", "cwd /dir", "stdin".
	With []string
	// Reads is set in place of a program: a file of the host that the agent reads for
	// it, as the user that it is itself, and has others learn of.
	Reads string
}

// Given is what a program is given by an environment and a directory of its own.
func Given(env map[string]string, dir string) []string {
	var with []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		with = append(with, "env "+name+"="+env[name])
	}
	if dir != "" {
		with = append(with, "cwd "+dir)
	}
	return with
}

// A Deputy is a Runner that runs its programs itself and can do so as another
// user, whom somebody else names.
type Deputy interface {
	Runner
	// RunAs names the user; empty is the one that the resource names itself. It is
	// called before each run, and before anything is checked.
	RunAs(user string)
}

// A Linked is a Resource that says which places on a network it lets in, such as
// those of a package repository.
type Linked interface {
	Locations() []string
}

// A Joiner is a Resource that puts somebody into groups, by name or number, which
// it does not claim.
type Joiner interface {
	Joins() []string
}

// An Originator is a Module that can tell from which places on a network the
// packages that its resources claim can come now. What it does not know it leaves
// out.
type Originator interface {
	Module
	Origins(ctx context.Context, packages []string) (map[string][]string, error)
}

// A Delivered is a Resource of an Originator.
type Delivered interface {
	Resource
	// Brings reports whether it may have packages installed.
	Brings() bool
	// Admit names who is asked about each package that is about to be installed,
	// those that come along included, and the places that it can come from, before
	// anything is. Nil lets in all. It is called before each run.
	Admit(judge func(name string, origins []string) error)
}

// A Sole is a Module of which a host has one, whatever source a resource is from:
// it keeps what all of them share, and writes no path of a resource's choice.
type Sole interface {
	Module
	Sole()
}
