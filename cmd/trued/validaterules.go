package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/policy"
	"trued.dev/trued/internal/resource"
)

// rulesFlags say which rules a repository is validated by, beside its own.
type rulesFlags struct{ file, source string }

// read reads the rules of a repository and those of the flags. It returns what
// holds a catalog against them, and what is wrong with the rules themselves.
func (f rulesFlags) read(root *os.Root) (func(*catalog.Catalog) []catalog.Error, []catalog.Error, error) {
	var wrong []catalog.Error
	var all []*policy.Policy
	names, err := fs.Glob(root.FS(), "policy/*.yaml")
	if err != nil {
		return nil, nil, fmt.Errorf("cannot list rules: %w", err)
	}
	for _, name := range names {
		data, err := root.ReadFile(name)
		if err != nil {
			return nil, nil, fmt.Errorf("cannot read rules: %w", err)
		}
		p, err := policy.Parse(name, data)
		wrong = append(wrong, ruleErrors(name, err)...)
		all = append(all, p)
	}
	if f.file != "" {
		data, err := os.ReadFile(f.file)
		if err != nil {
			return nil, nil, fmt.Errorf("cannot read rules: %w", err)
		}
		p, err := policy.Parse(f.file, data)
		wrong = append(wrong, ruleErrors(f.file, err)...)
		all = append(all, p)
	}
	rules := policy.Join(all...)
	if len(wrong) > 0 {
		rules = policy.Join()
	} else if f.source == "" {
		rules = rules.Everywhere()
	}
	return func(c *catalog.Catalog) []catalog.Error {
		judged := *c
		judged.Source = f.source
		_, err := rules.Judge(context.Background(), &judged, nil)
		return breaches(err)
	}, wrong, nil
}

// ruleErrors are what is wrong with a file of rules, at its places.
func ruleErrors(name string, err error) []catalog.Error {
	if err == nil {
		return nil
	}
	list := []error{err}
	if many, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // the joined errors themselves
		list = many.Unwrap()
	}
	var out []catalog.Error
	for _, e := range list {
		problem := catalog.Error{Origin: resource.Origin{File: name}, Message: e.Error()}
		var placed *policy.Error
		if errors.As(e, &placed) {
			problem.Origin.Line, problem.Origin.Column = placed.Line, placed.Column
			problem.Message, problem.Suggestion = placed.Message, placed.Suggestion
		}
		out = append(out, problem)
	}
	return out
}

func breaches(err error) []catalog.Error {
	var refused *policy.Refusal
	if !errors.As(err, &refused) {
		return nil
	}
	var list []catalog.Error
	for _, b := range refused.Breaches {
		list = append(list, catalog.Error{Origin: b.Origin, Message: b.Message()})
	}
	return list
}
