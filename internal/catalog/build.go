package catalog

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"trued.dev/trued/internal/document"
	"trued.dev/trued/internal/resource"
)

// An attribute is a key of a resource with what its value is rendered with.
type attribute struct {
	key, value *document.Node
	from       *instance
}

// built is an entry with the places of its attributes.
type built struct {
	Entry
	instance   *instance
	attributes []attribute
	// broken is true when something is wrong with it: then its module is asked
	// nothing more about it.
	broken bool
	// secret is true when it uses one, exposed when it could not keep it.
	secret, exposed bool
	// secrets are those that it uses, by path in the tree.
	secrets map[string]bool
	// made are the texts that templates made with one.
	made []string
}

// hidden reports whether its values are kept out of messages.
func (b *built) hidden() bool { return b.secret || mayBeSensitive(b.attributes) }

// build decodes and checks every instance and returns the catalog's entries.
func (l *loader) build() []*built {
	entries := make([]*built, 0, len(l.instances))
	for _, in := range l.instances {
		if b := l.buildOne(in); b != nil {
			entries = append(entries, b)
		}
	}
	return entries
}

func (l *loader) buildOne(in *instance) *built {
	b := &built{instance: in, attributes: merged(in), secrets: map[string]bool{}}
	defer l.guard(b)
	b.Entry = Entry{Address: in.address, Module: in.item.kind.module, Origin: in.origin(), Each: in.eachKey, Pending: in.pending}
	r := b.Module.New()
	refs, ok, open := l.decode(b, r)
	if in.absent != "" {
		return nil
	}
	for _, over := range in.overrides {
		b.Overrides = append(b.Overrides, over.origin())
		b.Pending = cmp.Or(b.Pending, over.pending)
	}
	b.Pending = cmp.Or(b.Pending, open)
	content := &content{l: l, built: b, resource: r}
	// With an open attribute there is nothing to load or judge.
	if ok && open == "" && in.address.Name != "" {
		ok = l.complete(b, r, content)
		b.Pending = cmp.Or(b.Pending, content.open)
	}
	ok = l.unsaid(b) && ok && !b.exposed
	b.broken = !ok
	if b.Pending == "" {
		b.Resource = r
	}
	b.Uses = l.uses(b, append(refs, content.refs...))
	return b
}

// guard makes a panic of a module an error of the resource that caused it: a
// commit that cannot be loaded must not end the agent.
func (l *loader) guard(b *built) {
	if r := recover(); r != nil {
		l.faults.at(b.instance.origin(), "%s: the module failed on it, which is a mistake in trued: %v", b.instance.address, r)
	}
}

// merged lays the attributes of overrides over those of the instance. One that
// is null in an override takes the attribute away.
func merged(in *instance) []attribute {
	list := make([]attribute, 0, len(in.item.attributes))
	for _, p := range in.item.attributes {
		list = append(list, attribute{p.Key, p.Value, in})
	}
	for _, over := range in.overrides {
		for _, p := range over.item.attributes {
			list = slices.DeleteFunc(list, func(a attribute) bool { return a.key.Value == p.Key.Value })
			if p.Value.Kind != document.Scalar || p.Value.Type != document.Null {
				list = append(list, attribute{p.Key, p.Value, over})
			}
		}
	}
	return list
}

// decode renders the attributes and decodes them. open says which fact one of
// them waits for. The attributes of b become the rendered ones.
func (l *loader) decode(b *built, r resource.Resource) (refs []ref, ok bool, open string) {
	ok = true
	in := b.instance
	if in.name != nil {
		ok = len(l.dec.Set(in.item.nameKey, in.name, r)) == 0
	}
	wrong := make([]bool, len(b.attributes))
	for k := range b.attributes {
		a := &b.attributes[k]
		was := l.names.secrets.begin()
		value, more, err := l.attributeValue(in, a)
		refs = append(refs, more...)
		kept := l.taint(b, r, a.key, a.from, l.names.secrets.end(was))
		var oe *openError
		if errors.As(err, &oe) {
			open = oe.Error()
		} else if err != nil {
			ok, wrong[k] = false, true
			continue
		}
		if !kept {
			wrong[k] = true
			continue
		}
		a.value = value
	}
	// Whether its values may be shown is known when all of them are.
	hidden := b.hidden()
	for k := range b.attributes {
		a := &b.attributes[k]
		if wrong[k] {
			continue
		}
		if hidden {
			a.value = hide(a.value)
		}
		problems := l.dec.Set(a.key, a.value, r)
		l.faults.problems(l.itemOrigin(a.from.item, a.key), problems)
		ok = ok && len(problems) == 0
	}
	if b.secret {
		r.Common().Sensitive = true
	}
	return refs, ok, open
}

// unsaid refuses a resource that uses a secret and says that it is not
// sensitive.
func (l *loader) unsaid(b *built) bool {
	if !b.secret {
		return true
	}
	for _, a := range b.attributes {
		if a.key.Value == "sensitive" && a.value.Type == document.Bool && strings.EqualFold(a.value.Value, "false") {
			l.faults.at(l.itemOrigin(a.from.item, a.key), "%s: sensitive: it uses a secret, so it is sensitive in any case: leave it out", b.Address)
			return false
		}
	}
	return true
}

// attributeValue renders one attribute. Of a resource that is not for this host
// the templates are left alone: what they name may be there only where it is.
func (l *loader) attributeValue(in *instance, a *attribute) (*document.Node, []ref, error) {
	i := a.from.item
	if in.absent != "" || in.pending != "" && (in.address.Name == "" || l.guards(in.item)) {
		if i.steering.Raw {
			return a.value, nil, nil
		}
		return opened(a.value), nil, nil
	}
	l.names.each = a.from.each
	defer func() { l.names.each = nil }()
	value, refs, err := l.renderNode(i, a.value, i.steering.Raw)
	var open *openError
	if errors.As(err, &open) {
		return opened(a.value), refs, err
	}
	return value, refs, err
}

// guards reports whether an item's `when` reads something optional, so that it
// may be what keeps its templates from naming what is not there.
func (l *loader) guards(i *item) bool {
	e := l.expressions.compiled[i.steering.When]
	return i.when != nil && e != nil && slices.ContainsFunc(e.refs, func(r ref) bool { return r.optional })
}

// opened returns a node with all templates in it marked as not known.
func opened(n *document.Node) *document.Node {
	made := *n
	switch n.Kind {
	case document.Scalar:
		if n.Type != document.Text || !isTemplate(n.Value) {
			return n
		}
		made.Open = true
	case document.List:
		made.Items = make([]*document.Node, len(n.Items))
		for k, item := range n.Items {
			made.Items[k] = opened(item)
		}
	case document.Map:
		made.Pairs = make([]document.Pair, len(n.Pairs))
		for k, p := range n.Pairs {
			made.Pairs[k] = document.Pair{Key: p.Key, Value: opened(p.Value)}
		}
	}
	return &made
}

// hide keeps the values of a sensitive resource out of messages.
func hide(n *document.Node) *document.Node {
	made := *n
	made.Hidden = true
	made.Items = make([]*document.Node, len(n.Items))
	for k, item := range n.Items {
		made.Items[k] = hide(item)
	}
	made.Pairs = make([]document.Pair, len(n.Pairs))
	for k, p := range n.Pairs {
		made.Pairs[k] = document.Pair{Key: p.Key, Value: hide(p.Value)}
	}
	return &made
}

// mayBeSensitive reports whether anything but `sensitive: false` is written.
func mayBeSensitive(list []attribute) bool {
	return slices.ContainsFunc(list, func(a attribute) bool {
		return a.key.Value == "sensitive" && (a.value.Type != document.Bool || !strings.EqualFold(a.value.Value, "false"))
	})
}

// complete loads a resource's content and judges it.
func (l *loader) complete(b *built, r resource.Resource, c *content) bool {
	if sourced, ok := r.(resource.Sourced); ok {
		err := sourced.Load(c)
		switch {
		case c.failed:
			l.judgeName(b, r.Validate())
			return false
		case c.open != "":
			return true
		case err != nil:
			l.fieldFaults(b, err)
			l.judgeName(b, r.Validate())
			return false
		}
	}
	good := l.common(b, r.Common())
	if err := r.Validate(); err != nil {
		l.fieldFaults(b, err)
		return false
	}
	if about, ok := r.(resource.Remarker); ok {
		if remark := about.Remark(); remark != "" {
			l.warn("%s: %s: %s", b.Origin, b.Address, remark)
		}
	}
	return good
}

// judgeName tells what is wrong with the name of a resource whose content could
// not be had: of its other attributes nothing can be said without.
func (l *loader) judgeName(b *built, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			l.judgeName(b, one)
		}
		return
	}
	var fe *resource.FieldError
	if errors.As(err, &fe) && fe.Field == b.Address.Kind {
		l.fieldFaults(b, err)
	}
}

// common judges the keys that every kind takes.
func (l *loader) common(b *built, m *resource.Meta) bool {
	var problems []error
	if m.Drift != "" && m.Drift != "repair" && m.Drift != "report" {
		problems = append(problems, resource.Wrong("drift", "%q is neither repair nor report", m.Drift))
	}
	if m.Timeout < 0 || m.Timeout > 24*time.Hour {
		problems = append(problems, resource.Wrong("timeout", "%s is not between 0 and 24h", m.Timeout))
	}
	for _, err := range problems {
		l.fieldFaults(b, err)
	}
	good := len(problems) == 0
	for k, name := range m.Ignore {
		if slices.Contains(b.instance.item.kind.keys, name) {
			continue
		}
		good = false
		at := l.attributeOrigin(b, "ignore", k)
		l.faults.add(Error{
			Origin:     at,
			Message:    b.Address.String() + ": ignore: no attribute " + quoted(name),
			Suggestion: document.Nearest(name, b.instance.item.kind.keys),
		})
	}
	return good
}

// attributeOrigin is the place of an attribute's value, of its item when it is
// a list and has one, or of the resource when the attribute is not written.
func (l *loader) attributeOrigin(b *built, key string, item int) resource.Origin {
	for _, a := range b.attributes {
		if a.key.Value != key {
			continue
		}
		n := a.value
		if item >= 0 && item < len(n.Items) {
			n = n.Items[item]
		}
		return l.itemOrigin(a.from.item, n)
	}
	if key == b.Address.Kind && b.instance.name != nil {
		return l.itemOrigin(b.instance.item, b.instance.name)
	}
	return b.Origin
}

// fieldFaults adds the errors of a module at the places of the attributes that
// they are about.
func (l *loader) fieldFaults(b *built, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			l.fieldFaults(b, one)
		}
		return
	}
	at, message := b.Origin, err.Error()
	var fe *resource.FieldError
	if errors.As(err, &fe) {
		key, _, _ := strings.Cut(fe.Field, "/")
		key, _, _ = strings.Cut(key, ".")
		at = l.attributeOrigin(b, key, -1)
	}
	switch {
	case b.secret:
		message = blankAll(message, b, l.names.secrets.opened)
	case b.hidden():
		message = blank(message, b.attributes)
	}
	l.faults.at(at, "%s: %s", b.Address, message)
}

// uses lists the vars and facts that a resource was made with.
func (l *loader) uses(b *built, refs []ref) []Use {
	item := b.instance.item
	if e := l.expressions.compiled[item.steering.When]; item.when != nil && e != nil {
		refs = append(refs, e.refs...)
	}
	if item.forEach != nil {
		if e := l.expressions.compiled[item.forEach.Value]; e != nil {
			refs = append(refs, e.refs...)
		}
	}
	if !item.steering.Raw && item.name.Kind == document.Scalar && isTemplate(item.name.Value) {
		if t := l.templates.parsed[item.name.Value]; t != nil {
			refs = append(refs, t.refs...)
		}
	}
	var list []Use
	for _, r := range refs {
		u := Use{Path: r.String()}
		if r.path[0] == eachName || slices.ContainsFunc(list, func(x Use) bool { return x.Path == u.Path }) {
			continue
		}
		if r.path[0] == varsName {
			u.Origin = l.names.vars.origin(u.Path)
			u.Origin.Source = l.tree.name
		}
		list = append(list, u)
	}
	for name := range b.secrets {
		list = append(list, Use{Path: "secret " + quoted(name), Origin: resource.Origin{Source: l.tree.name, File: name}})
	}
	slices.SortFunc(list, func(a, b Use) int { return strings.Compare(a.Path, b.Path) })
	return list
}
