package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"syscall"
	"time"

	"trued.dev/trued/internal/document"
	"trued.dev/trued/internal/source/object"
)

// Skew is how far ahead of the host's a committer's clock may be.
const Skew = 5 * time.Minute

// A Verdict is why a commit was accepted.
type Verdict struct {
	Commit string `json:"commit"`
	// Committed is the committer's date.
	Committed time.Time `json:"committed"`
	// Level is what was required of it: signature or history; or none.
	Level Require `json:"level"`
	// Signer is who signed it, Key the fingerprint of the key.
	Signer string `json:"signer,omitempty"`
	Key    string `json:"key,omitempty"`
	// Signers and Introduction are what it was accepted by.
	Signers      Place  `json:"signers,omitempty"`
	Introduction string `json:"introduction,omitempty"`
	// Repository is the name that its tree has to have.
	Repository string `json:"repository,omitempty"`
}

// A History is a commit that is offered, and what comes before it.
type History interface {
	Tip() object.ID
	// Commit returns the tip or a parent of it, or one that Since returned, or a
	// parent of that, as Git stores it.
	Commit(id object.ID) ([]byte, error)
	// Since returns the commits that are new since another, the tip among them.
	Since(from object.ID) ([]object.ID, error)
	// Files returns a file of several commits; those that have none are left out.
	Files(of []object.ID, name string) (map[object.ID][]byte, error)
}

// An Anchor is what the host knows already.
type Anchor struct {
	// Last is what was accepted last; zero where the host does not know.
	Last Verdict
	// Applied is the commit that the host was brought to before anything was
	// required of the source.
	Applied object.ID
	// Accept is true when an operator accepts on the host what does not follow from
	// this.
	Accept bool
}

// A Judge makes decisions for one source.
type Judge struct {
	config Config
	// NoDescendant is the error of a History whose tip does not descend from
	// another commit.
	NoDescendant error
	// Now is the clock.
	Now func() time.Time
}

// NewJudge returns the judge of a source.
func NewJudge(c Config, noDescendant error) *Judge {
	return &Judge{config: c, NoDescendant: noDescendant, Now: time.Now}
}

// materials are the host's files, as they are now.
type materials struct {
	signers *Signers
	keyring *Keyring
	revoked *Revocations
}

// Inputs stands for all that a decision is made from but the commits and the time.
func (j *Judge) Inputs() string {
	h := sha256.New()
	fmt.Fprintf(h, "%+v", j.config)
	for _, name := range []string{j.config.AllowedSigners, j.config.Keyring, j.config.Revoked} {
		if name == "" {
			continue
		}
		data, err := readOwn(name)
		fmt.Fprintf(h, "\n%s %d %v\n%s", name, len(data), err, data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// readOwn reads a file that nobody but its owner, who is root or whom the program
// runs as, can have written.
func readOwn(name string) ([]byte, error) {
	// Without waiting for whom a named pipe would take.
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // the operator says where it is
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%q is no file", name)
	case info.Mode().Perm()&0o022 != 0:
		return nil, fmt.Errorf("others than its owner can write to %q: chmod go-w it", name)
	case ok && st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return nil, fmt.Errorf("%q is not root's", name)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%q has more than %d bytes", name, maxFile)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%q has more than %d bytes", name, maxFile)
	}
	return data, err
}

const maxFile = 16 << 20

func (j *Judge) materials() (*materials, *Refusal) {
	m := &materials{signers: &Signers{}, keyring: &Keyring{}}
	read := func(key, name string, parse func([]byte) error) *Refusal {
		if name == "" {
			return nil
		}
		data, err := readOwn(name)
		if err == nil {
			err = parse(data)
		}
		if err != nil {
			return refuse(Unprepared, "cannot use %s %q: %v", key, name, err)
		}
		return nil
	}
	if r := read("allowed_signers", j.config.AllowedSigners, func(data []byte) error {
		m.signers = ParseSigners(data, time.Local)
		return nil
	}); r != nil {
		return nil, r
	}
	if r := read("keyring", j.config.Keyring, func(data []byte) (err error) {
		m.keyring, err = ParseKeyring(data)
		return err
	}); r != nil {
		return nil, r
	}
	if r := read("revoked", j.config.Revoked, func(data []byte) (err error) {
		m.revoked, err = ParseRevocations(data)
		return err
	}); r != nil {
		return nil, r
	}
	return m, nil
}

// signed checks the signature of a commit by given signers.
func (m *materials) signed(c *commit, signers *Signers, keyring *Keyring, now time.Time) (signer, key string, refusal *Refusal) {
	switch {
	case c.signature == nil:
		return "", "", refuse(Unsigned, "it is not signed")
	case string(c.signature[:min(len(pgpHead), len(c.signature))]) == pgpHead:
		signer, refusal = keyring.verify(c.signature, c.payload, c.committed, now)
		return signer, "", refusal
	}
	public, refusal := readSSH(c.signature, c.payload, namespace)
	if refusal != nil {
		return "", "", refusal
	}
	signer, refusal = verifyKey(signers, m.revoked, public, namespace, "", c.committer, c.committed)
	return signer, fingerprint(public), refusal
}

// Commits decides on the commit that is offered, by its history. The error is a
// *Refusal, or one of the history's.
func (j *Judge) Commits(h History, a Anchor) (Verdict, error) {
	now := j.Now()
	tip, err := read(h, h.Tip())
	if err != nil {
		return Verdict{}, err
	}
	v := Verdict{
		Commit: tip.id.String(), Committed: tip.committed, Level: j.config.Require, Signers: j.config.Signers,
		Repository: j.config.Repository,
	}
	if !j.config.Introduction.IsZero() {
		v.Introduction = j.config.Introduction.String()
	}
	if !j.config.Active() {
		v.Level = None
		return v, nil
	}
	m, refusal := j.materials()
	if refusal != nil {
		refusal.Commit = v.Commit
		return v, refusal
	}
	from, refusal := j.from(a, tip)
	if refusal != nil {
		// Who signed it is worth to be known by the one who is asked.
		signer, _, why := j.look(m, tip, now)
		if why != nil {
			refusal = why
		} else {
			refusal.Signer = signer
		}
		refusal.Commit = v.Commit
		return v, refusal
	}
	if refusal := dates(h, tip, a, now); refusal != nil {
		return v, refusal
	}
	v.Signer, v.Key, err = j.chain(h, m, tip, from, now)
	return v, err
}

// look checks a signature where the host's own files list the signers.
func (j *Judge) look(m *materials, c *commit, now time.Time) (signer, key string, refusal *Refusal) {
	if j.config.Signers == InRepository {
		return "", "", nil
	}
	return m.signed(c, m.signers, m.keyring, now)
}

// from is the commit that trust goes on from; zero where an operator makes the new
// one that commit.
func (j *Judge) from(a Anchor, tip *commit) (object.ID, *Refusal) {
	intro := j.config.Introduction
	last, err := object.ParseID(a.Last.Commit)
	known := err == nil && a.Last.Level != None
	same := known && a.Last.Level == j.config.Require && a.Last.Signers == j.config.Signers &&
		(intro.IsZero() || a.Last.Introduction == intro.String())
	switch {
	case a.Accept:
		return intro, nil
	case same:
		return last, nil
	case !intro.IsZero():
		return intro, nil
	case known:
		return last, nil
	case !a.Applied.IsZero():
		return a.Applied, nil
	}
	return object.ID{}, refuse(NoAnchor, "this host does not know which commit it trusted last: look at it, and accept it on this host "+
		"with `trued apply --accept-history=%.12s`, or pin an `introduction:`", tip.id)
}

// dates checks a commit's date against those of its parents, of what was accepted
// last, and the clock.
func dates(h History, c *commit, a Anchor, now time.Time) *Refusal {
	if c.committed.After(now.Add(Skew)) {
		return at(c, refuse(Future, "its date, %s, is yet to come", shown(c.committed)))
	}
	if last := a.Last.Committed; !a.Accept && c.committed.Before(last) {
		return at(c, refuse(Rewound, "its date, %s, is before that of commit %s, which was accepted on %s", shown(c.committed), a.Last.Commit, shown(last)))
	}
	for _, p := range c.parents {
		parent, err := read(h, p)
		if err != nil {
			return at(c, refuse(Malformed, "its parent cannot be read: %v", err))
		}
		if c.committed.Before(parent.committed) {
			return at(c, refuse(Backdated, "its date, %s, is before that of its parent, %s", shown(c.committed), shown(parent.committed)))
		}
	}
	return nil
}

func at(c *commit, r *Refusal) *Refusal {
	r.Commit = c.id.String()
	return r
}

func read(h History, id object.ID) (*commit, error) {
	raw, err := h.Commit(id)
	if err != nil {
		return nil, err
	}
	c, err := parseCommit(id, raw)
	if err != nil {
		return nil, &Refusal{Reason: Malformed, Commit: id.String(), Detail: err.Error()}
	}
	return c, nil
}

// chain checks what has to be signed: the tip, or everything since a commit.
func (j *Judge) chain(h History, m *materials, tip *commit, from object.ID, now time.Time) (signer, key string, err error) {
	everything := j.config.Require == WholeHistory || j.config.Signers == InRepository
	list := []object.ID{tip.id}
	if !from.IsZero() && tip.id != from {
		since, err := h.Since(from)
		switch {
		case errors.Is(err, j.NoDescendant):
			return "", "", at(tip, refuse(Rewound, "it does not descend from commit %s, which this host trusts", from))
		case err != nil:
			return "", "", err
		}
		if everything {
			list = since
		}
	}
	var listed map[object.ID]*Signers
	if j.config.Signers == InRepository {
		if listed, err = j.listed(h, list); err != nil {
			return "", "", err
		}
	}
	for _, id := range list {
		c, err := read(h, id)
		if err != nil {
			return "", "", err
		}
		if refusal := dates(h, c, Anchor{Accept: true}, now); refusal != nil {
			return "", "", refusal
		}
		name, print, refusal := j.one(m, c, listed, now)
		if refusal != nil {
			return "", "", at(c, refusal)
		}
		if id == tip.id {
			signer, key = name, print
		}
	}
	return signer, key, nil
}

// one checks a commit by the host's files, or by the lists of all of its parents.
func (j *Judge) one(m *materials, c *commit, listed map[object.ID]*Signers, now time.Time) (signer, key string, refusal *Refusal) {
	if j.config.Signers != InRepository {
		return m.signed(c, m.signers, m.keyring, now)
	}
	by := j.listers(c)
	if len(by) == 0 {
		return "", "", refuse(Rewound, "it has no parent, so nobody was listed who could have signed it")
	}
	for _, p := range by {
		list := listed[p]
		if list == nil {
			list = &Signers{}
		}
		if signer, key, refusal = m.signed(c, list, &Keyring{}, now); refusal != nil {
			if refusal.Reason == UnknownKey {
				refusal.Detail += fmt.Sprintf(" in %s of its parent %s", SignersFile, p)
			}
			return "", "", refusal
		}
	}
	return signer, key, nil
}

// listers are the commits that list who may have signed one.
func (j *Judge) listers(c *commit) []object.ID {
	if c.id == j.config.Introduction {
		return []object.ID{c.id} // the host vouches for it: whoever it lists may have signed it
	}
	return c.parents
}

// listed reads the lists of signers that some commits are checked by.
func (j *Judge) listed(h History, list []object.ID) (map[object.ID]*Signers, error) {
	need := map[object.ID]bool{}
	for _, id := range list {
		c, err := read(h, id)
		if err != nil {
			return nil, err
		}
		for _, p := range j.listers(c) {
			need[p] = true
		}
	}
	ids := slices.Collect(maps.Keys(need))
	files, err := h.Files(ids, SignersFile)
	if err != nil {
		return nil, err
	}
	listed := map[object.ID]*Signers{}
	for id, data := range files {
		// Times without a zone mean the same on every host.
		listed[id] = ParseSigners(data, time.UTC)
	}
	return listed, nil
}

// Tree decides on the commit by its files.
func (j *Judge) Tree(commit object.ID, file func(string) ([]byte, error)) error {
	if j.config.Repository == "" {
		return nil
	}
	wrong := func(format string, args ...any) error {
		return &Refusal{Reason: Foreign, Commit: commit.String(), Detail: fmt.Sprintf(format, args...)}
	}
	data, err := file(NameFile)
	if errors.Is(err, fs.ErrNotExist) {
		return wrong("it has no %s, which must hold `name: %s`", NameFile, j.config.Repository)
	}
	if err != nil {
		return err
	}
	name, err := RepositoryName(data)
	if err != nil {
		return wrong("its %s is malformed: %v", NameFile, err)
	}
	if name != j.config.Repository {
		return wrong("it is of the repository %q, and this host follows %q", name, j.config.Repository)
	}
	return nil
}

// RepositoryName reads a repository's name.
func RepositoryName(data []byte) (string, error) {
	var named struct {
		Name string `yaml:"name"`
	}
	docs, problems := document.Parse(data)
	if len(problems) == 0 && len(docs) == 1 {
		problems = document.NewDecoder().Decode(docs[0], &named)
	}
	switch {
	case len(problems) > 0:
		return "", fmt.Errorf("%d:%d: %s", problems[0].Line, problems[0].Column, problems[0].Message)
	case len(docs) != 1 || named.Name == "":
		return "", errors.New("it has no `name:`")
	}
	return named.Name, nil
}

// Revoked reports, by a *Refusal, that the key of a commit that was accepted
// is revoked now.
func (j *Judge) Revoked(raw []byte, v Verdict) error {
	if !j.config.Active() {
		return nil
	}
	id, err := object.ParseID(v.Commit)
	if err != nil {
		return err
	}
	c, err := parseCommit(id, raw)
	if err != nil {
		return &Refusal{Reason: Malformed, Commit: v.Commit, Detail: err.Error()}
	}
	m, refusal := j.materials()
	if refusal == nil {
		refusal = m.revokes(c, j.Now())
	}
	if refusal == nil {
		return nil
	}
	refusal.Commit = v.Commit
	if refusal.Signer == "" {
		refusal.Signer = v.Signer
	}
	return refusal
}

func (m *materials) revokes(c *commit, now time.Time) *Refusal {
	if c.signature == nil {
		return nil
	}
	if string(c.signature[:min(len(pgpHead), len(c.signature))]) == pgpHead {
		if _, why := m.keyring.verify(c.signature, c.payload, c.committed, now); why != nil && why.Reason == Revoked {
			return why
		}
		return nil
	}
	key, why := readSSH(c.signature, c.payload, namespace)
	if why == nil && m.revoked.has(key) {
		why = refuse(Revoked, "key %s is revoked", fingerprint(key))
	}
	return why
}

// Stale reports whether a commit is older than the newest one may be.
func (c Config) Stale(committed, now time.Time) bool {
	return c.FreshWithin > 0 && !committed.IsZero() && now.Sub(committed) > c.FreshWithin
}
