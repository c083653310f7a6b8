package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/host"
	"trued.dev/trued/modules"
)

func (a *app) validateCommand() *cobra.Command {
	var rules rulesFlags
	c := &cobra.Command{
		Use:     "validate [DIR]",
		GroupID: "author",
		Short:   "Check a whole repository without a host, for CI",
		Long: `Load every group of the repository in DIR (the current directory by default),
as every host that hosts.yaml and hosts/ name, and report all errors at once, as
FILE:LINE:COLUMN. No host is looked at.

Facts are taken from .trued/facts/*.yaml: a file that is called like a host is
for that host, any other stands for a host of its own kind and is tried with each
group. What hangs on a fact that no file gives is not checked, and counted.

The rules in policy/*.yaml of the repository, and in FILE, are held against it as a
host would, but for where its links and mounts lead.

Each secret is held against .trued/recipients without any key: whether the hosts of
the groups that use it can read it, and nobody else.`,
		Example: `  trued validate
  trued validate infra -o json
  trued validate --policy /etc/trued/policy.yaml --as app .`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "."
			if len(args) == 1 {
				dir = args[0]
			}
			return a.validate(dir, rules)
		},
	}
	c.Flags().StringVar(&rules.file, "policy", "", "hold the repository against the rules in `FILE` as well")
	c.Flags().StringVar(&rules.source, "as", "", "the `NAME` that hosts have for this source; else rules for any source count")
	return c
}

// validationJSON is what validate finds, for programs.
type validationJSON struct {
	Valid    bool                `json:"valid"`
	Errors   []catalog.Error     `json:"errors"`
	Warnings []string            `json:"warnings"`
	Loads    []catalog.Validated `json:"loads"`
}

func (a *app) validate(dir string, rules rulesFlags) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("cannot open repository %q: %w", dir, err)
	}
	defer root.Close()
	// The modules are asked for what a value says about itself, never for a host.
	nowhere := host.New("/", host.Options{})
	judge, wrong, err := rules.read(root)
	if err != nil {
		return err
	}
	v, err := catalog.Validate("", root.FS(), modules.All(nowhere), version, judge)
	var found *catalog.Errors
	if err != nil && !errors.As(err, &found) {
		return fmt.Errorf("cannot validate %q: %w", dir, err)
	}
	out := validationJSON{Valid: err == nil, Errors: []catalog.Error{}, Warnings: []string{}, Loads: []catalog.Validated{}}
	out.Warnings = append(out.Warnings, v.Warnings...)
	out.Loads = append(out.Loads, v.Loads...)
	out.Valid = out.Valid && len(wrong) == 0
	if out.Errors = append(out.Errors, wrong...); found != nil {
		out.Errors = append(out.Errors, found.List...)
	}
	if a.format == "json" {
		err = a.writeJSON(out)
	} else {
		err = a.printValidation(dir, out)
	}
	if err == nil && !out.Valid {
		err = &codeError{exitUsage}
	}
	return err
}

func (a *app) printValidation(dir string, v validationJSON) error {
	for _, w := range v.Warnings {
		a.say("warning: %s", w)
	}
	if !v.Valid {
		p := printer{w: a.err, c: palette(a.err)}
		for _, e := range v.Errors {
			p.line("%s", printable(e.Error()))
		}
		p.line("%s in %s", count(len(v.Errors), "error"), dir)
		return p.err
	}
	hosts := map[string]bool{}
	unchecked := map[string]int{} // the most that one load of a group leaves out
	closed := map[string]int{}
	for _, l := range v.Loads {
		unchecked[l.Group] = max(unchecked[l.Group], l.Pending)
		closed[l.Group] = max(closed[l.Group], l.Sealed)
		if l.Host != "" {
			hosts[l.Host] = true
		}
	}
	pending, sealed := 0, 0
	for group, n := range unchecked {
		pending, sealed = pending+n, sealed+closed[group]
	}
	p := printer{w: a.out, c: palette(a.out)}
	line := fmt.Sprintf("%s, %s: no errors", count(len(unchecked), "group"), count(len(hosts), "host"))
	if pending > 0 {
		line += fmt.Sprintf(" (%s not wholly checked, for want of facts in .trued/facts)", count(pending, "resource"))
	}
	if sealed > 0 {
		line += fmt.Sprintf(" (%s with a secret not wholly checked)", count(sealed, "resource"))
	}
	p.line("%s", line)
	return p.err
}

// count says how many of something there are.
func count[N int | uint64](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
