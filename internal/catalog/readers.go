package catalog

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/secret"
)

// maxSecrets is how many encrypted files a repository may have.
const maxSecrets = 100_000

// A SecretFile is an encrypted file of a repository, and who is to read it.
type SecretFile struct {
	// Path is where it is in the repository.
	Path string
	// Groups are those whose hosts may want it: its own, those that include that
	// one, and those that use it.
	Groups []string
	// Uses are the groups that use it, by the hosts that were tried.
	Uses map[string][]string
	// Want are its recipients by .trued/recipients.
	Want []secret.Recipient
	// Sealed is what it says itself; nil where Problem says why it cannot be read.
	Sealed  *secret.Sealed
	Problem error
	// Missing are recipients that cannot read it, and Extra who can and should not.
	Missing []secret.Recipient
	Extra   []string
}

// Right reports whether the file is for exactly those who are to read it.
func (f *SecretFile) Right() bool {
	return f.Problem == nil && len(f.Missing) == 0 && len(f.Extra) == 0 && len(f.Want) > 0
}

// Secrets lists the encrypted files of a repository, in order of their paths, with
// who is to read each. Names are those of files that are yet to be written.
// What is wrong with manifests is no error of it: what could be read counts.
func Secrets(fsys fs.FS, modules []resource.Module, version string, names ...string) ([]*SecretFile, error) {
	v := &validation{in: Input{Tree: fsys, Modules: modules, Version: version}, tree: openTree("", fsys), extra: names}
	v.run()
	_, wrong, err := v.tree.rules()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.New("there is no " + secret.RecipientsFile + ": write into it who may read the secrets of which groups, " +
			"a line for each: groups/web ssh-ed25519 AAAA… web-1")
	case err != nil:
		return nil, err
	case len(wrong) > 0:
		return nil, errors.New(secret.RecipientsFile + ": " + wrong[0].Error())
	}
	return v.secrets, nil
}

// A reader is one load of a group, as far as secrets are concerned.
type reader struct {
	group, host string
	includes    map[string]bool // itself as well
	used        map[string]bool
}

// noteSecrets notes which secrets a load asked for.
func (v *validation) noteSecrets(s subject, l *loader) {
	group := path.Clean(s.group)
	r := reader{group: group, host: s.host, includes: map[string]bool{group: true}, used: map[string]bool{}}
	for name := range l.byPath {
		r.includes[name] = true
	}
	if l.names != nil {
		for name := range l.names.secrets.failed {
			r.used[name] = true
		}
	}
	v.readers = append(v.readers, r)
}

// findSecrets lists the encrypted files, with who is to read them.
func (v *validation) findSecrets(groups []string) {
	var names []string
	_ = fs.WalkDir(v.tree.fsys, ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil || len(names) > maxSecrets:
			return fs.SkipDir
		case e.IsDir() && strings.HasPrefix(e.Name(), ".") && name != ".":
			return fs.SkipDir
		case !e.IsDir() && strings.HasSuffix(name, secret.Suffix):
			names = append(names, name)
		}
		return nil
	})
	for _, name := range v.extra {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	rules, _, _ := v.tree.rules()
	data, _, _ := v.tree.read(secret.IndexFile, maxTemplate)
	index := secret.ParseIndex(data)
	for _, name := range names {
		f := &SecretFile{Path: name, Uses: map[string][]string{}}
		v.readersOf(f, ownGroup(name, groups))
		f.Want = rules.Of(name, f.Groups)
		var text []byte
		if text, _, f.Problem = v.tree.read(name, secret.MaxSize); f.Problem == nil {
			f.Sealed, f.Problem = secret.Read(text)
		}
		if f.Problem == nil {
			f.Missing, f.Extra = f.Sealed.Compare(f.Want, index.Keys(name, text))
		}
		v.secrets = append(v.secrets, f)
	}
}

// ownGroup is the group whose directory a file is in, or "".
func ownGroup(name string, groups []string) string {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if slices.Contains(groups, dir) {
			return dir
		}
	}
	return ""
}

func (v *validation) readersOf(f *SecretFile, own string) {
	add := func(group string) {
		if !slices.Contains(f.Groups, group) {
			f.Groups = append(f.Groups, group)
		}
	}
	if own != "" {
		add(own)
	}
	for _, r := range v.readers {
		if r.includes[own] {
			add(r.group)
		}
		if r.used[f.Path] {
			add(r.group)
			f.Uses[r.group] = append(f.Uses[r.group], r.host)
		}
	}
	slices.Sort(f.Groups)
}

// checkSecrets holds each encrypted file against the recipients file: whether the
// hosts of all groups that may want it can read it, and nobody else.
func (v *validation) checkSecrets(groups []string) {
	v.findSecrets(groups)
	at := resource.Origin{Source: v.in.Name, File: secret.RecipientsFile}
	rules, wrong, err := v.tree.rules()
	for _, w := range wrong {
		at.Line, at.Column = w.Line, 1
		v.faults.at(at, "%s", w.Message)
	}
	at.Line, at.Column = 0, 0
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if len(v.secrets) > 0 {
			v.out.Warnings = append(v.out.Warnings, "there is no "+secret.RecipientsFile+
				", so nothing says whether hosts can read the secrets that they use")
		}
		return
	case err != nil:
		v.faults.at(at, "cannot read it: %s", reason(err))
		return
	case len(wrong) > 0:
		return // whom a line is for that cannot be read is not known
	}
	for _, f := range v.secrets {
		v.checkSecret(f, rules)
	}
}

func (v *validation) checkSecret(f *SecretFile, rules secret.Rules) {
	at := resource.Origin{Source: v.in.Name, File: f.Path}
	if f.Problem != nil {
		if len(f.Uses) == 0 { // else it was said where it is used
			v.out.Warnings = append(v.out.Warnings, f.Path+": "+reason(f.Problem))
		}
		return
	}
	for _, group := range sortedKeys(f.Uses) {
		v.checkUse(f, group, rules)
	}
	for _, r := range f.Missing {
		v.faults.at(at, "it is not encrypted for %s, who is to read it by %s: run `trued secret rekey`", r, secret.RecipientsFile)
	}
	for _, e := range f.Extra {
		name := e
		if known := rules.Name(e[strings.LastIndexByte(e, ' ')+1:]); known != "" {
			name = known
		}
		v.faults.at(at, "it is still encrypted for %s, who is not to read it by %s: change the secret, then run `trued secret rekey`", name, secret.RecipientsFile)
	}
}

// checkUse says whether the hosts of a group that uses a secret are among those
// who are to read it.
func (v *validation) checkUse(f *SecretFile, group string, rules secret.Rules) {
	at := resource.Origin{Source: v.in.Name, File: f.Path}
	if len(f.Want) == 0 || !rules.ForGroup(f.Path, group) {
		v.faults.at(at, "group %s uses it, and no line of %s lets hosts of that group read it", group, secret.RecipientsFile)
		return
	}
	for _, h := range f.Uses[group] {
		for _, rule := range rules {
			named := h != "" && rule.Recipient.Host() == h
			if named && !slices.ContainsFunc(f.Want, func(r secret.Recipient) bool { return r.Key == rule.Recipient.Key }) {
				v.faults.at(at, "host %s uses it, and its key in line %d of %s is not among its recipients", h, rule.Line, secret.RecipientsFile)
			}
		}
	}
}
