package catalog

import (
	"errors"
	"slices"
	"strings"

	"trued.dev/trued/internal/document"
	"trued.dev/trued/internal/resource"
)

// Keys of an item that steer the loader and reach no module.
const (
	whenKey     = "when"
	forEachKey  = "for_each"
	rawKey      = "raw"
	overrideKey = "override"
)

func loaderKeys() []string { return []string{whenKey, forEachKey, rawKey, overrideKey} }

// steering is what those keys say.
type steering struct {
	When     string `yaml:"when"`
	Raw      bool   `yaml:"raw"`
	Override bool   `yaml:"override"`
}

// An item is one resource as it is written in a manifest: before for_each and
// lists of names make several of it.
type item struct {
	group *group
	file  *file
	kind  *kind
	// name is the value of the kind key; node the whole item.
	nameKey, name, node *document.Node
	when                *document.Node
	forEach             *document.Node
	steering            steering
	// attributes are the keys that are the module's, less the kind key.
	attributes []document.Pair
}

// An instance is one resource with a name.
type instance struct {
	item    *item
	each    *each
	eachKey string
	// name is the rendered name.
	name    *document.Node
	address resource.Address
	// pending says why it is not known whether it is, or what it is called.
	pending string
	// absent says why it is not in the catalog of this host.
	absent    string
	overrides []*instance
}

func (l *loader) itemOrigin(i *item, n *document.Node) resource.Origin {
	return l.tree.origin(i.group.path, i.file.path, n.Line, n.Column)
}

func (i *instance) origin() resource.Origin {
	return resource.Origin{
		Source: i.item.file.source, Group: i.item.group.path, File: i.item.file.path,
		Line: i.item.nameKey.Line, Column: i.item.nameKey.Column,
	}
}

// readGroup reads all manifests of a group.
func (l *loader) readGroup(g *group) {
	for _, name := range g.manifests {
		f, err := l.tree.yaml(name)
		if err != nil {
			l.faults.at(l.tree.origin(g.path, name, 0, 0), "cannot read manifest: %s", reason(err))
			l.incomplete = true
			continue
		}
		l.faults.problems(l.tree.origin(g.path, name, 1, 1), f.problems)
		// What could be read is checked all the same.
		l.incomplete = l.incomplete || len(f.problems) > 0
		for _, doc := range f.docs {
			l.readDocument(g, f, doc)
		}
	}
}

func (l *loader) readDocument(g *group, f *file, doc *document.Node) {
	at := l.tree.origin(g.path, f.path, doc.Line, doc.Column)
	if doc.Kind == document.Scalar && doc.Type == document.Null {
		return
	}
	if doc.Kind != document.List {
		hint := ""
		if doc.Kind == document.Map {
			hint = `: begin each resource with "- "`
		}
		l.faults.at(at, "%s where a list of resources is wanted%s", doc.What(), hint)
		l.incomplete = true
		return
	}
	for _, n := range doc.Items {
		if len(l.instances) > maxResources {
			l.faults.at(at, "more than %d resources", maxResources)
			return
		}
		if i := l.readItem(g, f, n); i == nil || !l.expand(i) {
			l.incomplete = true
		}
	}
}

// readItem takes an item apart: its kind, what steers the loader, the rest.
func (l *loader) readItem(g *group, f *file, n *document.Node) *item {
	i := &item{group: g, file: f, node: n}
	if n.Kind != document.Map {
		l.faults.at(l.itemOrigin(i, n), "%s where a resource is wanted, such as {file: /etc/motd}", n.What())
		return nil
	}
	if i.nameKey = l.kindKey(i, n); i.nameKey == nil {
		return nil
	}
	i.kind = l.kinds[i.nameKey.Value]
	for _, p := range n.Pairs {
		switch key := p.Key.Value; key {
		case i.nameKey.Value:
			i.name = p.Value
		case forEachKey:
			i.forEach = p.Value
		case whenKey, rawKey, overrideKey:
			value := p.Value
			if key == whenKey {
				value = asExpression(value)
				i.when = value
			}
			l.faults.problems(l.itemOrigin(i, p.Key), l.dec.Set(p.Key, value, &i.steering))
		default:
			i.attributes = append(i.attributes, p)
		}
	}
	if i.when != nil && i.steering.When == "" {
		if i.when.Kind == document.Scalar && i.when.Type == document.Text {
			l.faults.at(l.itemOrigin(i, i.when), "when: empty expression")
		}
		i.when = nil // said already
	}
	return i
}

// asExpression takes true and false without quotes as the expressions that they
// are.
func asExpression(n *document.Node) *document.Node {
	if n.Kind != document.Scalar || n.Type != document.Bool {
		return n
	}
	made := *n
	made.Type, made.Value = document.Text, strings.ToLower(n.Value)
	return &made
}

// kindKey finds the one key of an item that is a kind. A key that is a kind may
// also be an attribute of another: `group` of a file.
func (l *loader) kindKey(i *item, n *document.Node) *document.Node {
	var found []*document.Node
	for _, p := range n.Pairs {
		if l.kinds[p.Key.Value] != nil {
			found = append(found, p.Key)
		}
	}
	if len(found) == 0 {
		l.noKind(i, n)
		return nil
	}
	for _, candidate := range found {
		others := slices.ContainsFunc(found, func(k *document.Node) bool {
			return k != candidate && !slices.Contains(l.kinds[candidate.Value].keys, k.Value)
		})
		if !others {
			return candidate
		}
	}
	l.faults.at(l.itemOrigin(i, found[1]), "two kinds in one resource, %q and %q: begin each resource with \"- \"", found[0].Value, found[1].Value)
	return nil
}

func (l *loader) noKind(i *item, n *document.Node) {
	e := Error{Origin: l.itemOrigin(i, n)}
	for _, p := range n.Pairs {
		near := document.Nearest(p.Key.Value, l.kindNames)
		if near != "" && !slices.Contains(loaderKeys(), p.Key.Value) {
			e.Origin = l.itemOrigin(i, p.Key)
			e.Message, e.Suggestion = "unknown kind "+quoted(p.Key.Value), near
			break
		}
	}
	switch {
	case e.Message != "":
	case len(n.Pairs) == 0:
		e.Message = "an empty resource"
	default:
		e.Message = "unknown kind " + quoted(n.Pairs[0].Key.Value) + ": a resource begins with one of " + strings.Join(l.kindNames, ", ")
	}
	l.faults.add(e)
}

// expand makes the instances of an item: one for each turn of for_each, and in
// it one for each name. It reports whether it could make all.
func (l *loader) expand(i *item) bool {
	turns, pending, ok := l.turns(i)
	switch {
	case !ok:
		return false
	case pending != "":
		l.addNameless(i, nil, "", pending)
	case i.forEach == nil:
		return l.expandNames(i, nil, "")
	default:
		for _, turn := range turns {
			ok = l.expandNames(i, turn, keyText(turn.key)) && ok
		}
	}
	return ok
}

func (l *loader) addNameless(i *item, turn *each, eachKey, pending string) {
	in := &instance{item: i, each: turn, eachKey: eachKey, pending: pending, address: resource.Address{Kind: i.kind.module.Kind()}}
	l.instances = append(l.instances, in)
	l.nameless = append(l.nameless, in)
}

func (l *loader) expandNames(i *item, turn *each, eachKey string) bool {
	l.names.each = turn
	defer func() { l.names.each = nil }()
	absent, pending, ok := l.when(i)
	if !ok {
		// What else is wrong with it is to be said as well.
		pending = errSaid.Error()
	}
	was := l.names.secrets.begin()
	name, _, err := l.renderNode(i, i.name, i.steering.Raw)
	if l.names.secrets.end(was).touched {
		l.faults.at(l.itemOrigin(i, i.name), "%s: a name cannot be made of a secret, for it is told of", i.nameKey.Value)
		return false
	}
	var open *openError
	if errors.As(err, &open) {
		l.addNameless(i, turn, eachKey, open.Error())
		return true
	}
	if err != nil {
		return false
	}
	list := []*document.Node{name}
	if name.Kind == document.List {
		list = name.Items
		if len(list) == 0 {
			l.warn("%s: an empty list of names", l.itemOrigin(i, i.name))
		}
	}
	for _, n := range list {
		in := &instance{item: i, each: turn, eachKey: eachKey, name: n, absent: absent, pending: pending}
		if l.address(in) {
			l.instances = append(l.instances, in)
		} else {
			ok = false
		}
	}
	return ok
}

// address asks the module what the resource is called, in its own spelling.
func (l *loader) address(in *instance) bool {
	i := in.item
	if in.name.Kind != document.Scalar || in.name.Type == document.Null || in.name.Value == "" {
		l.faults.at(l.itemOrigin(i, i.name), "%s: %s where a name is wanted", i.nameKey.Value, in.name.What())
		return false
	}
	r := i.kind.module.New()
	problems := l.dec.Set(i.nameKey, in.name, r)
	l.faults.problems(l.itemOrigin(i, i.name), problems)
	if len(problems) > 0 {
		return false
	}
	in.address = resource.AddressOf(i.kind.module, r)
	return true
}
