package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"unicode/utf8"

	"trued.dev/trued/internal/document"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/secret"
)

// secrets opens the encrypted files of a tree while a catalog is loaded, and
// knows what was made of one: whoever renders something asks it afterwards.
type secrets struct {
	tree *tree
	// keys are nil where nothing is decrypted: then each secret is a value that
	// is not known.
	keys *secret.Keys
	// group is what paths are relative to, while something is rendered.
	group string
	// touched is true when a secret was used since the last call of begin.
	touched bool
	used    map[string]bool // by path in the tree, since that call
	// opened are the secrets of this load, by path in the tree.
	opened map[string]string
	failed map[string]error
	rules  *secret.Rules
	// sealed is true when a var is a secret.
	sealed bool
}

func newSecrets(t *tree, keys *secret.Keys) *secrets {
	return &secrets{tree: t, keys: keys, used: map[string]bool{}, opened: map[string]string{}, failed: map[string]error{}}
}

// A usage is what was used of secrets before something else is rendered.
type usage struct {
	touched bool
	used    map[string]bool
}

// begin starts to note what is used, and returns what was until now.
func (s *secrets) begin() usage {
	was := usage{s.touched, s.used}
	s.touched, s.used = false, map[string]bool{}
	return was
}

// end returns what was used since begin, and adds it to what was before.
func (s *secrets) end(was usage) usage {
	now := usage{s.touched, s.used}
	for name := range now.used {
		was.used[name] = true
	}
	s.touched, s.used = was.touched || now.touched, was.used
	return now
}

// value is the function `secret` of templates: what is in an encrypted file, less
// a newline at its end, which echo and editors put there.
func (s *secrets) value(name string) (string, error) { return s.in(s.group, name) }

func (s *secrets) in(group, name string) (string, error) {
	full, err := within(group, name)
	if err != nil {
		s.touched = true
		return "", s.problem(name, err)
	}
	text, err := s.open(full)
	var open *openError
	if errors.As(err, &open) {
		return "", open
	}
	if err == nil && (!utf8.ValidString(text) || strings.ContainsRune(text, 0)) {
		err = errors.New("is not text: write it to a file of its own, by its source")
	}
	if err != nil {
		return "", s.problem(name, err)
	}
	return strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r"), nil
}

// problem is an error about a secret that says nothing of what is in it.
func (s *secrets) problem(name string, err error) error {
	return &textError{message: fmt.Sprintf("secret %q: %s", name, s.reason(err)), safe: true}
}

func (s *secrets) reason(err error) string {
	var unreadable *secret.UnreadableError
	if errors.As(err, &unreadable) {
		hint := ""
		if len(unreadable.Own) > 0 {
			hint = fmt.Sprintf(": add that key to %s and run `trued secret rekey`", secret.RecipientsFile)
		}
		return unreadable.Say(s.name) + hint
	}
	return reason(err)
}

// name is what the repository calls the SSH key with a tag.
func (s *secrets) name(tag string) string {
	if s.rules == nil {
		rules, _, _ := s.tree.rules()
		s.rules = &rules
	}
	return s.rules.Name(tag)
}

// rules reads the recipients file of a tree. There may be none.
func (t *tree) rules() (secret.Rules, []secret.LineError, error) {
	data, _, err := t.read(secret.RecipientsFile, maxTemplate)
	if err != nil {
		return nil, nil, err
	}
	rules, wrong := secret.ParseRules(data)
	return rules, wrong, nil
}

// open returns what is in an encrypted file of the tree. It is decrypted once
// for a load, and a failure is the same each time.
func (s *secrets) open(full string) (string, error) {
	s.touched, s.used[full] = true, true
	if err := s.failed[full]; err != nil {
		return "", err
	}
	if text, ok := s.opened[full]; ok {
		return text, nil
	}
	text, err := s.decrypt(full)
	if err != nil {
		s.failed[full] = err
		return "", err
	}
	s.opened[full] = text
	return text, nil
}

func (s *secrets) decrypt(full string) (string, error) {
	data, _, err := s.tree.read(full, secret.MaxSize)
	if err != nil {
		return "", err
	}
	file, err := secret.Read(data)
	if err != nil {
		return "", err
	}
	if s.keys == nil {
		return "", &openError{path: fmt.Sprintf("secret %q", full), reason: "secrets are not decrypted here"}
	}
	plain, err := file.Open(s.keys)
	return string(plain), err
}

// withheld takes out of an error what a template that works on a secret could
// say of it.
func withheld(err error) error {
	var open *openError
	var list textErrors
	var one *textError
	switch {
	case errors.As(err, &open), errors.As(err, &list):
		return err
	case errors.As(err, &one) && one.safe:
		return err
	}
	out := &textError{message: "this does not work on what is in the secret; what exactly is wrong is not shown", safe: true}
	if one != nil {
		out.line, out.column = one.line, one.column
	}
	return out
}

// sealed stands for a secret among the vars. What is in it takes its place only
// while a template is executed that names it.
type sealed struct{ group, name string }

// MarshalText refuses: nothing that writes out data may come across one.
func (*sealed) MarshalText() ([]byte, error) { return nil, errors.New("a secret is not written out") }

// secretVar matches a text that is a secret as a whole.
var secretVar = pattern("^\\s*\\{\\{-?\\s*secret\\s+(?:\"([^\"\\\\{}]+)\"|`([^`{}]+)`)\\s*-?\\}\\}\\s*$")

// secretCall matches any call of the function.
var secretCall = pattern(`\{\{[^}]*\bsecret\s`)

// sealedBy returns what stands for a text that is a secret as a whole, or nil.
func sealedBy(text, group string) *sealed {
	if !isTemplate(text) {
		return nil
	}
	m := secretVar().FindStringSubmatch(text)
	if m == nil {
		return nil
	}
	return &sealed{group: group, name: m[1] + m[2]}
}

// seal replaces each text in data that is a secret. It reports whether there was one.
func seal(v any, group string) (any, bool) {
	found := false
	switch v := v.(type) {
	case string:
		if s := sealedBy(v, group); s != nil {
			return s, true
		}
	case []any:
		for i := range v {
			made, ok := seal(v[i], group)
			v[i], found = made, found || ok
		}
	case map[string]any:
		for key := range v {
			made, ok := seal(v[key], group)
			v[key], found = made, found || ok
		}
	}
	return v, found
}

// holds reports whether there is a secret in data.
func holdsSecret(v any) bool {
	switch v := v.(type) {
	case *sealed:
		return true
	case []any:
		return slices.ContainsFunc(v, holdsSecret)
	case map[string]any:
		for _, item := range v {
			if holdsSecret(item) {
				return true
			}
		}
	}
	return false
}

// at returns what a path of vars or each leads to, and how it is replaced; nil
// where it leads to nothing.
func (n *names) at(path []string) (value any, set func(any)) {
	switch {
	case path[0] == varsName:
		value = n.vars.data
	case path[0] == eachName && n.each != nil && len(path) == 1:
		value = n.each.value
		set = func(v any) { n.each.value = v }
	case path[0] == eachName && n.each != nil && path[1] == "value":
		value = n.each.value
		set = func(v any) { n.each.value = v }
		path = path[1:]
	default:
		return nil, nil
	}
	for _, key := range path[1:] {
		m, ok := value.(map[string]any)
		if !ok {
			break
		}
		next, ok := m[key]
		if !ok {
			return nil, nil
		}
		value, set = next, func(v any) { m[key] = v }
	}
	return value, set
}

// reveal puts the secrets at and below a path in their places, until conceal.
func (n *names) reveal(path []string) error {
	if !n.secrets.sealed {
		return nil
	}
	value, set := n.at(path)
	return n.unseal(value, set)
}

func (n *names) unseal(v any, set func(any)) error {
	switch v := v.(type) {
	case *sealed:
		text, err := n.secrets.in(v.group, v.name)
		if err != nil {
			return err
		}
		set(text)
		n.concealed = append(n.concealed, func() { set(v) })
	case []any:
		for i := range v {
			if err := n.unseal(v[i], func(x any) { v[i] = x }); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, key := range sortedKeys(v) {
			if err := n.unseal(v[key], func(x any) { v[key] = x }); err != nil {
				return err
			}
		}
	}
	return nil
}

// conceal takes back what reveal did.
func (n *names) conceal() {
	for _, undo := range n.concealed {
		undo()
	}
	n.concealed = nil
}

// revealAll reveals what a template names.
func (n *names) revealAll(p *text) error {
	if !n.secrets.sealed {
		return nil
	}
	for _, r := range p.refs {
		if err := n.reveal(r.path); err != nil {
			var problem *textError
			if errors.As(err, &problem) {
				return problem.at(r)
			}
			return err
		}
	}
	if !p.whole {
		return nil
	}
	return errors.Join(n.reveal([]string{varsName}), n.reveal([]string{eachName}))
}

// unlooked refuses an expression that would look at a secret: what it makes of
// one would show. To name a list or map as a whole, with secrets in it, is none.
func (n *names) unlooked(expression string, refs []ref) error {
	if !n.secrets.sealed {
		return nil
	}
	for i, r := range refs {
		longer := slices.ContainsFunc(refs, func(o ref) bool {
			return o.line == r.line && o.column == r.column && len(o.path) > len(r.path)
		})
		if longer || len(refs) == 1 && r.String() == strings.TrimSpace(expression) {
			continue
		}
		if value, _ := n.at(r.path); holdsSecret(value) {
			return (&textError{message: lookedAt(r.String())}).at(refs[i])
		}
	}
	return nil
}

func lookedAt(name string) string {
	return name + " holds a secret, which an expression cannot look at: it would show in what it decides"
}

// taint makes a resource that uses a secret a sensitive one, and refuses the
// secret where the kind could not keep it to itself: then it goes no further.
func (l *loader) taint(b *built, r resource.Resource, key *document.Node, from *instance, used usage) (ok bool) {
	if !used.touched {
		return true
	}
	b.secret = true
	for name := range used.used {
		b.secrets[name] = true
	}
	r.Common().Sensitive = true
	if why := discloses(b.Module, key.Value); why != "" {
		l.faults.at(l.itemOrigin(from.item, key), "%s: %s: it cannot hold a secret: %s", b.Address, key.Value, why)
		b.exposed = true
		return false
	}
	return true
}

// discloses says how a secret in an attribute would get out, or "".
func discloses(m resource.Module, key string) string {
	if d, ok := m.(resource.Discloser); ok {
		if why := d.Discloses(key); why != "" {
			return why
		}
	}
	switch key {
	case "requires", "drift", "ignore", "prune", "sensitive", "timeout", "restart_on", "reload_on", "run_on":
		return "it is told of in events"
	case "validate":
		return "every process can read the arguments of another"
	}
	return ""
}

// age returns the content of a source that is an encrypted file.
func (c *content) age(full string) (*resource.Content, error) {
	info, _, err := c.l.tree.stat(full)
	if err != nil {
		return nil, err
	}
	plain, err := c.l.names.secrets.open(full)
	if err != nil {
		return nil, err
	}
	made := resource.Bytes([]byte(plain))
	made.Executable = info.Mode()&fs.FileMode(0o111) != 0
	return made, nil
}

// attributeOf finds the key that a path was written under.
func (c *content) attributeOf(n *document.Node) *document.Node {
	for _, a := range c.built.attributes {
		if a.value == n || findScalar(a.value, n.Value) == n {
			return a.key
		}
	}
	return c.built.instance.item.nameKey
}
