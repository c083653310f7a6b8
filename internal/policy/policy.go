// Package policy holds a catalog against the rules of a host: which source may
// use which kinds, paths, units, packages, owners and modes, and what it may have
// run, as whom.
//
// It judges what resources say of themselves and where their paths lead on the
// host. It changes nothing, and knows no kind: a resource that states too little
// is taken to do the worst.
package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"

	"trued.dev/trued/internal/document"
)

// File is where a host has its rules, below its root.
const File = "/etc/trued/policy.yaml"

// A Policy is a set of rules. All of them must hold; their order means nothing.
type Policy struct {
	rules []*rule
	sum   string
}

// A rule is one of them as it is written, compiled.
type rule struct {
	Name     string   `yaml:"name" doc:"what it is called when it is broken"`
	Sources  []string `yaml:"sources" doc:"names of sources, or globs of them; each is confined by it. All sources, and none confined, where it is left out"`
	Kinds    []string `yaml:"kinds" doc:"the kinds that it is about; all"`
	When     string   `yaml:"when" doc:"an expression: which resources it is about; all"`
	Deny     string   `yaml:"deny" doc:"an expression: what breaks the rule"`
	Require  string   `yaml:"require" doc:"an expression: what must be so, or the rule is broken"`
	AllowRun string   `yaml:"allow_run" doc:"an expression over run: what a confined source may have run"`
	As       string   `yaml:"as" doc:"with allow_run: the user whom it is run as"`
	Message  string   `yaml:"message" doc:"what to tell the author"`

	at                         string
	when, deny, require, allow *expression
}

// An Error is something wrong with a file of rules.
type Error struct {
	File string
	document.Problem
}

func (e *Error) Error() string { return e.File + ":" + e.Problem.Error() }

// Parse reads a file of rules. The error joins all that is wrong with it, each
// an *Error.
func Parse(file string, data []byte) (*Policy, error) {
	r := &reading{file: file, dec: document.NewDecoder()}
	sum := sha256.Sum256(data)
	p := &Policy{sum: hex.EncodeToString(sum[:])}
	docs, problems := document.Parse(data)
	if len(docs) > 1 {
		problems = append(problems, docs[1].Problem("there is more than one document"))
	}
	switch {
	case len(problems) > 0:
	case len(docs) == 0:
		r.errs = append(r.errs, fmt.Errorf("%s: it is empty: take the file away if that is meant", file))
	default:
		p.rules = r.read(docs[0])
	}
	for _, problem := range problems {
		r.errs = append(r.errs, &Error{file, problem})
	}
	return p, errors.Join(r.errs...)
}

// Join returns the rules of several files as one set.
func Join(all ...*Policy) *Policy {
	joined := &Policy{}
	sum := sha256.New()
	for _, p := range all {
		joined.rules = append(joined.rules, p.rules...)
		sum.Write([]byte(p.sum))
	}
	joined.sum = hex.EncodeToString(sum.Sum(nil))
	return joined
}

// Everywhere returns the rules with each that names sources being about the one
// source that there is.
func (p *Policy) Everywhere() *Policy {
	all := &Policy{sum: p.sum}
	for _, r := range p.rules {
		same := *r
		if same.Sources != nil {
			same.Sources = []string{"*"}
		}
		all.rules = append(all.rules, &same)
	}
	return all
}

// Digest stands for all rules. That of no policy is empty.
func (p *Policy) Digest() string {
	if p == nil {
		return ""
	}
	return p.sum
}

// Concerns reports whether any rule is about a source.
func (p *Policy) Concerns(source string) bool {
	return p != nil && slices.ContainsFunc(p.rules, func(r *rule) bool { return r.concerns(source) })
}

// confines reports whether a source may have run only what a rule allows.
func (p *Policy) confines(source string) bool {
	return slices.ContainsFunc(p.rules, func(r *rule) bool { return r.Sources != nil && r.concerns(source) })
}

func (r *rule) concerns(source string) bool {
	return r.Sources == nil || slices.ContainsFunc(r.Sources, func(glob string) bool {
		ok, err := path.Match(glob, source)
		return glob == "*" || glob == source || err == nil && ok
	})
}

// A reading is one file being read.
type reading struct {
	file string
	dec  *document.Decoder
	errs []error
}

func (r *reading) wrong(at *document.Node, format string, args ...any) {
	r.errs = append(r.errs, &Error{r.file, at.Problem(format, args...)})
}

func (r *reading) read(doc *document.Node) []*rule {
	var all struct {
		Rules []*rule `yaml:"rules"`
	}
	for _, problem := range r.dec.Decode(doc, &all) {
		r.errs = append(r.errs, &Error{r.file, problem})
	}
	list := doc.Get("rules")
	if len(r.errs) > 0 {
		return nil
	}
	if list == nil {
		r.wrong(doc, "there are no rules: a file without any is one that was cut off")
		return nil
	}
	names := map[string]bool{}
	for i, rule := range all.Rules {
		at := list.Items[i]
		if rule == nil {
			r.wrong(at, "an empty rule")
			continue
		}
		if names[rule.Name] {
			r.wrong(at, "there are two rules %q", rule.Name)
		}
		names[rule.Name] = true
		rule.at = fmt.Sprintf("%s:%d", r.file, at.Line)
		r.compile(rule, at)
	}
	if len(all.Rules) == 0 {
		r.wrong(list, "there are no rules: take the file away if that is meant")
	}
	return all.Rules
}

// compile says all that is wrong with a rule.
func (r *reading) compile(rule *rule, at *document.Node) {
	if rule.Name == "" {
		r.wrong(at, "a rule without a name, by which its breach is told")
	}
	given := 0
	for _, part := range []struct {
		key, text string
		what      result
		into      **expression
	}{
		{"when", rule.When, ofResource, &rule.when},
		{"deny", rule.Deny, ofResource, &rule.deny},
		{"require", rule.Require, ofResource, &rule.require},
		{"allow_run", rule.AllowRun, ofRun, &rule.allow},
	} {
		node := at.Get(part.key)
		if node == nil {
			continue
		}
		if part.key != "when" {
			given++
		}
		made, err := compile(part.text, part.what)
		if err != nil {
			r.wrong(node, "%s: %v", part.key, err)
			continue
		}
		*part.into = made
	}
	if given != 1 {
		r.wrong(at, "a rule has one of deny, require and allow_run")
	}
	if (rule.As != "") != (at.Get("allow_run") != nil) {
		r.wrong(at, "allow_run and as go together: what may be run, and as whom")
	}
	for _, key := range []string{"sources", "kinds"} {
		if node := at.Get(key); node != nil && len(node.Items) == 0 {
			r.wrong(node, "%s: an empty list is about nothing", key)
		}
	}
	for i, glob := range rule.Sources {
		if _, err := path.Match(glob, ""); err != nil {
			r.wrong(at.Get("sources").Items[i], "%q is not a glob", glob)
		}
	}
}
