package trust_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/source/object"
	"trued.dev/trued/internal/trust"
)

// A line of commits, the newest at the end, each with the files that it has.
type line struct {
	ids     []object.ID
	commits map[object.ID]string
	files   map[object.ID]map[string]string
}

func (l *line) add(t testing.TB, raw string, files map[string]string) object.ID {
	t.Helper()
	id, err := object.Hash(object.Commit, []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	if l.commits == nil {
		l.commits, l.files = map[object.ID]string{}, map[object.ID]map[string]string{}
	}
	l.ids, l.commits[id], l.files[id] = append(l.ids, id), raw, files
	return id
}

func (l *line) Tip() object.ID { return l.ids[len(l.ids)-1] }

func (l *line) Commit(id object.ID) ([]byte, error) {
	raw, ok := l.commits[id]
	if !ok {
		return nil, fmt.Errorf("there is no commit %s", id)
	}
	return []byte(raw), nil
}

var errElsewhere = errors.New("elsewhere")

func (l *line) Since(from object.ID) ([]object.ID, error) {
	at := slices.Index(l.ids, from)
	if at < 0 {
		return nil, errElsewhere
	}
	return l.ids[at+1:], nil
}

func (l *line) Files(of []object.ID, name string) (map[object.ID][]byte, error) {
	found := map[object.ID][]byte{}
	for _, id := range of {
		if text, ok := l.files[id][name]; ok {
			found[id] = []byte(text)
		}
	}
	return found, nil
}

const (
	aTree = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n"
	byAda = "author Ada <ada@example.com> 1700000000 +0100\ncommitter Ada <ada@example.com> 1700000000 +0100\n"
)

// folded is a header as Git stores it.
func folded(key string, value []byte) string {
	return key + " " + strings.ReplaceAll(strings.TrimRight(string(value), "\n"), "\n", "\n ") + "\n"
}

// signedBy is a commit with Ada's signature in it.
func signedBy(k *keygen, key, header, text string) string {
	return header + folded("gpgsig", k.sign(key, "git", header+text)) + text
}

// Each is told from a good commit as Git and ssh-keygen would, or is refused
// because it could be read in two ways, or holds what nobody signed.
func TestForgedCommitsAreTold(t *testing.T) {
	t.Parallel()
	k := newKeygen(t)
	signers := k.write("allowed", "ada@example.com "+k.key("ada", "ed25519")+"\n")
	k.key("mallory", "ed25519")
	const text = "\nA message\n"
	signature := k.sign("ada", "git", aTree+byAda+text)
	armor := string(signature)
	of := func(sig string) string { return aTree + byAda + folded("gpgsig", []byte(sig)) + text }
	tag := "object 4b825dc642cb6eb9a060e54bf8d69288fbee4904\ntype commit\ntag v1\ntagger Ada <ada@example.com> 1700000000 +0100\n\nOne\n"
	committer := func(line string) string {
		return signedBy(k, "ada", aTree+"author Ada <ada@example.com> 1700000000 +0100\n"+line+"\n", text)
	}
	for name, c := range map[string]struct {
		raw  string
		want trust.Reason
	}{
		"a good one":                    {of(armor), ""},
		"with an encoding":              {signedBy(k, "ada", aTree+byAda+"encoding ISO-8859-1\n", text), ""},
		"with the tag that it merges":   {signedBy(k, "ada", aTree+byAda+folded("mergetag", []byte(tag+string(k.sign("mallory", "git", tag)))), text), ""},
		"a NUL in the message":          {signedBy(k, "ada", aTree+byAda, "\nA\x00message\n"), ""},
		"signed within a merged tag":    {aTree + byAda + folded("mergetag", []byte(tag+string(k.sign("ada", "git", tag)))) + text, trust.Unsigned},
		"signed in its message":         {aTree + byAda + text + folded("gpgsig", signature), trust.Unsigned},
		"signed in a header of another": {aTree + byAda + folded("Gpgsig", signature) + text, trust.Unsigned},
		"an empty signature":            {aTree + byAda + "gpgsig \n" + text, trust.BadSignature},
		"two signatures":                {aTree + byAda + folded("gpgsig", signature) + folded("gpgsig", k.sign("mallory", "git", aTree+byAda+text)) + text, trust.Malformed},
		"a stranger's before it":        {of(string(k.sign("mallory", "git", aTree+byAda+text)) + armor), trust.BadSignature},
		"a stranger's after it":         {of(armor + string(k.sign("mallory", "git", aTree+byAda+text))), trust.BadSignature},
		"something after it":            {of(armor + "and what nobody signed"), trust.BadSignature},
		"something within its armor":    {of(strings.Replace(armor, "\n", "\nUnsigned: text\n\n", 1)), trust.BadSignature},
		"a signature by SHA-256 names":  {aTree + byAda + folded("gpgsig", signature) + folded("gpgsig-sha256", signature) + text, trust.Malformed},
		"of another commit":             {aTree + byAda + folded("gpgsig", k.sign("ada", "git", aTree+byAda+"\nAnother\n")) + text, trust.BadSignature},
		"of a tag":                      {aTree + byAda + folded("gpgsig", k.sign("ada", "git", tag)) + text, trust.BadSignature},
		"of a file":                     {of(string(k.sign("ada", "file", aTree+byAda+text))), trust.BadSignature},
		"of X.509":                      {of("-----BEGIN SIGNED MESSAGE-----\nAAAA\n-----END SIGNED MESSAGE-----\n"), trust.BadSignature},
		"by a stranger":                 {of(string(k.sign("mallory", "git", aTree+byAda+text))), trust.UnknownKey},
		"a NUL in its header":           {strings.Replace(of(armor), "Ada <", "A\x00a <", 1), trust.Malformed},
		"lines that end like DOS's":     {strings.Replace(of(armor), "+0100\n", "+0100\r\n", 2), trust.Malformed},
		"a second tree":                 {signedBy(k, "ada", aTree+aTree+byAda, text), trust.Malformed},
		"a parent behind the committer": {signedBy(k, "ada", aTree+byAda+"parent 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n", text), trust.Malformed},
		"a second committer":            {committer("committer Ada <ada@example.com> 1 +0000\ncommitter Ada <ada@example.com> 1700000000 +0100"), trust.Malformed},
		"a committer on two lines":      {committer("committer Ada <ada@example.com> 1700000000 +0100\n <x> 1 +0000"), trust.Malformed},
		"no committer":                  {signedBy(k, "ada", aTree+"author Ada <ada@example.com> 1700000000 +0100\n", text), trust.Malformed},
		"a date before 1970":            {committer("committer Ada <ada@example.com> -1 +0000"), trust.Malformed},
		"a date with a sign":            {committer("committer Ada <ada@example.com> +1700000000 +0000"), trust.Malformed},
		"a date beyond all numbers":     {committer("committer Ada <ada@example.com> 18446744073709551617 +0000"), trust.Malformed},
		"a date that is none":           {committer("committer Ada <ada@example.com> 0x10 +0000"), trust.Malformed},
		"no zone":                       {committer("committer Ada <ada@example.com> 1700000000"), trust.Malformed},
		"a zone that is none":           {committer("committer Ada <ada@example.com> 1700000000 +0100 2"), trust.Malformed},
		"a zone of another world":       {committer("committer Ada <ada@example.com> 1700000000 +9999"), ""},
		"a date that is yet to come":    {committer("committer Ada <ada@example.com> 4000000000 +0000"), trust.Future},
		"no message":                    {aTree + byAda, trust.Malformed},
	} {
		judge := trust.NewJudge(trust.Config{Require: trust.Signature, AllowedSigners: signers}, errElsewhere)
		var l line
		l.add(t, c.raw, nil)
		_, err := judge.Commits(&l, trust.Anchor{Accept: true})
		if got := reasonOf(t, err); got != c.want {
			t.Errorf("%s: %q, want %q: %v", name, got, c.want, err)
		}
	}
}

// reasonOf is why a commit was refused, nothing for one that was accepted.
func reasonOf(t *testing.T, err error) trust.Reason {
	t.Helper()
	var why *trust.Refusal
	if err != nil && !errors.As(err, &why) {
		t.Fatalf("it was not decided: %v", err)
	}
	if why == nil {
		return ""
	}
	return why.Reason
}

// A commit that was accepted by the list of its parent is looked at anew when the
// host asks for more, and by the same list.
func TestACommitIsJudgedAnewByTheListOfItsParents(t *testing.T) {
	t.Parallel()
	k := newKeygen(t)
	list := map[string]string{trust.SignersFile: "ada@example.com " + k.key("ada", "ed25519") + "\n"}
	var l line
	first := l.add(t, signedBy(k, "ada", aTree+byAda, "\nOne\n"), list)
	second := l.add(t, signedBy(k, "ada", aTree+"parent "+first.String()+"\n"+byAda, "\nTwo\n"), list)
	c := trust.Config{Require: trust.Signature, Signers: trust.InRepository, Introduction: first}
	third := l.add(t, signedBy(k, "ada", aTree+"parent "+second.String()+"\n"+byAda, "\nThree\n"), list)
	v, err := trust.NewJudge(c, errElsewhere).Commits(&l, trust.Anchor{})
	if err != nil || v.Commit != third.String() {
		t.Fatalf("%+v, %v", v, err)
	}
	c.Repository = "infra-prod"
	if v, err := trust.NewJudge(c, errElsewhere).Commits(&l, trust.Anchor{Last: v}); err != nil || v.Repository != "infra-prod" {
		t.Errorf("%+v, %v", v, err)
	}
}

// The time of a signature is its commit's, which may lie anywhere.
func TestDatesAreComparedAndNotBelieved(t *testing.T) {
	t.Parallel()
	k := newKeygen(t)
	signers := k.write("allowed", "ada@example.com valid-before=\"20240101Z\" "+k.key("ada", "ed25519")+"\n")
	at := func(parent string, when time.Time) string {
		person := fmt.Sprintf("Ada <ada@example.com> %d +0000\n", when.Unix())
		return signedBy(k, "ada", aTree+parent+"author "+person+"committer "+person, "\nA message\n")
	}
	then := time.Date(2023, 6, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		parent, when, last time.Time
		want               trust.Reason
	}{
		"while the key was valid":            {then, then.AddDate(0, 1, 0), then, ""},
		"when it was valid no more":          {then, then.AddDate(1, 0, 0), then, trust.Expired},
		"back to when it was":                {then.AddDate(1, 0, 0), then.AddDate(0, 1, 0), then, trust.Backdated},
		"back to before what is trusted":     {then, then.AddDate(0, 1, 0), then.AddDate(0, 2, 0), trust.Rewound},
		"at the very second of its parent's": {then, then, then, ""},
	} {
		var l line
		first := l.add(t, at("", c.parent), nil)
		l.add(t, at("parent "+first.String()+"\n", c.when), nil)
		judge := trust.NewJudge(trust.Config{Require: trust.Signature, AllowedSigners: signers}, errElsewhere)
		_, err := judge.Commits(&l, trust.Anchor{Last: trust.Verdict{Commit: first.String(), Level: trust.Signature, Committed: c.last}})
		if got := reasonOf(t, err); got != c.want {
			t.Errorf("%s: %q, want %q: %v", name, got, c.want, err)
		}
	}
}
