package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"trued.dev/trued/internal/document"
	"trued.dev/trued/internal/resource"
)

func quoted(s string) string { return strconv.Quote(s) }

func keyText(v any) string {
	s, err := scalarText(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return s
}

// errSaid stands for an error that is among the faults already.
var errSaid = errors.New("said already")

// textFault adds an error within the text of a node at the place that it has in
// the file.
func (l *loader) textFault(i *item, n *document.Node, prefix string, err error) {
	var list textErrors
	var one *textError
	switch {
	case errors.As(err, &list):
	case errors.As(err, &one):
		list = textErrors{one}
	default:
		list = textErrors{{message: err.Error()}}
	}
	for _, e := range list {
		at := l.itemOrigin(i, n)
		at.Line, at.Column = textPlace(i.file, n, e)
		l.faults.add(Error{Origin: at, Message: prefix + e.message, Suggestion: e.suggestion})
	}
}

// textPlace is where a place in the text of a node is in its file.
func textPlace(f *file, n *document.Node, e *textError) (line, column int) {
	if e.line == 0 {
		return max(1, n.Line), n.Column
	}
	if n.Block {
		line = n.Line + e.line
		return line, max(1, e.column) + indentOf(f, n, line)
	}
	if e.line > 1 {
		return n.Line, n.Column
	}
	column = n.Column + max(1, e.column) - 1
	if n.Quoted {
		column++
	}
	return n.Line, column
}

// indentOf is how far the text of a block is indented: as its first line that
// is not empty.
func indentOf(f *file, n *document.Node, line int) int {
	lines := bytes.SplitN(f.data, []byte("\n"), line+1)
	for i := n.Line; i < line && i < len(lines); i++ {
		if text := bytes.TrimLeft(lines[i], " "); len(bytes.TrimSpace(text)) > 0 {
			return len(lines[i]) - len(text)
		}
	}
	return 0
}

// renderNode executes the templates in a node and what is below it. The error
// is an *openError, or errSaid.
func (l *loader) renderNode(i *item, n *document.Node, raw bool) (*document.Node, []ref, error) {
	if raw {
		return n, nil, nil
	}
	switch n.Kind {
	case document.List:
		return l.renderList(i, n)
	case document.Map:
		return l.renderMap(i, n)
	case document.Scalar:
	}
	if n.Type != document.Text || !isTemplate(n.Value) || l.sealing && sealedBy(n.Value, "") != nil {
		return n, nil, nil
	}
	s := l.names.secrets
	s.group = i.group.path
	was := s.begin()
	defer l.names.conceal()
	out, err := l.templates.render(n.Value)
	if used := s.end(was); used.touched && err != nil {
		err = withheld(err)
	}
	var open *openError
	if errors.As(err, &open) {
		return n, out.refs, open
	}
	if err != nil {
		l.textFault(i, n, "", err)
		return n, out.refs, errSaid
	}
	if out.value != nil {
		return document.FromAny(out.value, n), out.refs, nil
	}
	made := *n
	made.Value, made.Templated = out.text, true
	return &made, out.refs, nil
}

func (l *loader) renderList(i *item, n *document.Node) (*document.Node, []ref, error) {
	var refs []ref
	var failed error
	made := n
	for k, child := range n.Items {
		out, more, err := l.renderNode(i, child, false)
		failed, refs = worse(failed, err), append(refs, more...)
		if out == child {
			continue
		}
		if made == n {
			made = &document.Node{}
			*made = *n
			made.Items = append([]*document.Node(nil), n.Items...)
		}
		made.Items[k] = out
	}
	return made, refs, failed
}

func (l *loader) renderMap(i *item, n *document.Node) (*document.Node, []ref, error) {
	var refs []ref
	var failed error
	made := n
	for k, p := range n.Pairs {
		out, more, err := l.renderNode(i, p.Value, false)
		failed, refs = worse(failed, err), append(refs, more...)
		if out == p.Value {
			continue
		}
		if made == n {
			made = &document.Node{}
			*made = *n
			made.Pairs = append([]document.Pair(nil), n.Pairs...)
		}
		made.Pairs[k].Value = out
	}
	return made, refs, failed
}

// worse returns the graver of two errors: what is wrong before what is open.
func worse(a, b error) error {
	if a == nil || b != nil && errors.Is(b, errSaid) {
		return b
	}
	return a
}

// when says whether an item is for this host: why not, or why that is not known.
func (l *loader) when(i *item) (absent, pending string, ok bool) {
	if i.when == nil {
		return "", "", true
	}
	value, _, err := l.expressions.eval(i.steering.When)
	var open *openError
	switch {
	case errors.As(err, &open):
		return "", open.Error(), true
	case err != nil:
		l.textFault(i, i.when, "when: ", err)
		return "", "", false
	}
	is, isBool := value.(bool)
	if !isBool {
		l.faults.at(l.itemOrigin(i, i.when), "when: the expression is %s, not true or false", what(value))
		return "", "", false
	}
	if !is {
		return "when: " + i.steering.When, "", true
	}
	return "", "", true
}

// turns evaluates for_each.
func (l *loader) turns(i *item) (list []*each, pending string, ok bool) {
	n := i.forEach
	if n == nil {
		return nil, "", true
	}
	if n.Kind != document.Scalar {
		return l.literalTurns(i, n)
	}
	at := l.itemOrigin(i, n)
	if n.Type != document.Text || n.Value == "" {
		l.faults.at(at, "for_each: %s where a list, a map or an expression is wanted", n.What())
		return nil, "", false
	}
	if isTemplate(n.Value) {
		l.faults.at(at, "for_each takes an expression, which has no braces, such as vars.sites")
		return nil, "", false
	}
	value, _, err := l.expressions.eval(n.Value)
	var open *openError
	if errors.As(err, &open) {
		return nil, open.Error(), true
	}
	if err != nil {
		l.textFault(i, n, "for_each: ", err)
		return nil, "", false
	}
	switch value := value.(type) {
	case []any:
		for k, v := range value {
			list = append(list, &each{key: k, value: v})
		}
	case map[string]any:
		for _, k := range sortedKeys(value) {
			list = append(list, &each{key: k, value: value[k]})
		}
	default:
		l.faults.at(at, "for_each: the expression is %s, not a list or map", what(value))
		return nil, "", false
	}
	return list, "", l.bounded(at, len(list))
}

func (l *loader) literalTurns(i *item, n *document.Node) (list []*each, pending string, ok bool) {
	l.sealing = !i.steering.Raw
	was := l.names.secrets.begin()
	made, _, err := l.renderNode(i, n, i.steering.Raw)
	l.sealing = false
	if l.names.secrets.end(was).touched {
		l.faults.at(l.itemOrigin(i, n), "for_each: a secret in it must be a value as a whole, such as '{{ secret \"secrets/db.age\" }}'")
		return nil, "", false
	}
	value := func(n *document.Node) any {
		v := n.Any()
		if !i.steering.Raw {
			var found bool
			v, found = seal(v, i.group.path)
			l.names.secrets.sealed = l.names.secrets.sealed || found
		}
		return v
	}
	var open *openError
	if errors.As(err, &open) {
		return nil, open.Error(), true
	}
	if err != nil {
		return nil, "", false
	}
	for k, item := range made.Items {
		list = append(list, &each{key: k, value: value(item)})
	}
	for _, p := range made.Pairs {
		list = append(list, &each{key: p.Key.Value, value: value(p.Value)})
	}
	return list, "", l.bounded(l.itemOrigin(i, n), len(list))
}

func (l *loader) bounded(at resource.Origin, n int) bool {
	if len(l.instances)+n > maxResources {
		l.faults.at(at, "more than %d resources", maxResources)
		return false
	}
	return true
}
