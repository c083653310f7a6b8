package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"

	"trued.dev/trued/internal/document"
)

// maxActions is how many {{ }} a template may have: the parser goes as deep as
// they are nested, and no deeper than the stack.
const maxActions = 20_000

const (
	tmplStep  = "__step"
	tmplEnter = "__enter"
	tmplLeave = "__leave"
	tmplPrint = "__print"
)

// A text is a template that was parsed once for a catalog.
type text struct {
	tmpl *template.Template
	refs []ref
	// single is true when the whole template is one action, so that its value
	// can be taken as it is.
	single bool
	// whole is true when it names all of its data at once.
	whole bool
	err   error
}

// A templates parses and executes templates over names.
type templates struct {
	names  *names
	budget budget
	parsed map[string]*text
	funcs  template.FuncMap
	// last is the value that was printed last, and single whether it is all that
	// the template is about.
	last   any
	single bool
}

func newTemplates(n *names) *templates {
	t := &templates{names: n, parsed: map[string]*text{}}
	t.funcs = t.functions()
	return t
}

// isTemplate reports whether a string has anything to execute.
func isTemplate(s string) bool { return strings.Contains(s, "{{") }

// A rendered is what a template made.
type rendered struct {
	text string
	// value is the list or map that the template is about as a whole, or nil.
	value any
	refs  []ref
}

// render executes a template. Errors are textErrors, *textError or *openError.
func (t *templates) render(source string) (rendered, error) {
	p := t.parsed[source]
	if p == nil {
		p = t.parse(source)
		t.parsed[source] = p
	}
	out := rendered{refs: p.refs}
	if p.err != nil {
		return out, p.err
	}
	if err := t.names.check(p.refs); err != nil {
		return out, err
	}
	if err := t.names.revealAll(p); err != nil {
		return out, err
	}
	data := map[string]any{factsName: t.names.facts, varsName: t.names.vars.data}
	if t.names.each != nil {
		data[eachName] = t.names.each.data()
	}
	t.budget.reset()
	t.last, t.single = nil, p.single
	w := &boundedWriter{}
	if err := p.tmpl.Execute(w, data); err != nil {
		return out, templateError(err)
	}
	if p.single {
		switch t.last.(type) {
		case []any, map[string]any:
			out.value = t.last
			return out, nil
		}
	}
	out.text = w.buf.String()
	return out, nil
}

// renderFile is render for a template that is a file: a list or map is an error
// there, however it is written.
func (t *templates) renderFile(source string) (rendered, error) {
	out, err := t.render(source)
	if err == nil && out.value != nil {
		return out, &textError{line: 1, column: 1, message: "the template makes " + what(out.value) + ": use join, toJson or toYaml"}
	}
	return out, err
}

// boundedWriter keeps the output of a template up to the limit.
type boundedWriter struct{ buf bytes.Buffer }

func (w *boundedWriter) Write(p []byte) (int, error) {
	if w.buf.Len()+len(p) > maxOutput {
		return 0, limited("makes more than %d MiB", maxOutput>>20)
	}
	return w.buf.Write(p)
}

var templatePlace = pattern(`^template: text:(\d+)(?::(\d+))?: `)
var templateContext = pattern(`^executing "[^"]*" at <(.*?)>: `)

// templateError takes the place out of an error of text/template, and leaves
// what the author needs.
func templateError(err error) error {
	var open *openError
	if errors.As(err, &open) {
		return open
	}
	problem := &textError{message: err.Error()}
	if m := templatePlace().FindStringSubmatch(problem.message); m != nil {
		problem.message = problem.message[len(m[0]):]
		problem.line, _ = strconv.Atoi(m[1])
		if m[2] != "" {
			problem.column, _ = strconv.Atoi(m[2])
			problem.column++
		}
	}
	at := ""
	if m := templateContext().FindStringSubmatch(problem.message); m != nil {
		problem.message = problem.message[len(m[0]):]
		at = m[1]
	}
	var known *textError
	var limit *limitError
	switch {
	case errors.As(err, &limit):
		problem.message, problem.safe = limit.message, true
	case errors.As(err, &known):
		problem.message, problem.suggestion, problem.safe = known.message, known.suggestion, known.safe
	case strings.Contains(problem.message, "map has no entry for key"):
		problem.message = fmt.Sprintf("unknown name %q", at)
	case strings.Contains(problem.message, "can't evaluate field"):
		field, _, _ := strings.Cut(strings.TrimPrefix(problem.message, "can't evaluate field "), " ")
		problem.message = fmt.Sprintf("unknown name %q: what it is looked up in is no map", field)
	default:
		problem.message = strings.TrimPrefix(problem.message, "error calling "+tmplPrint+": ")
		problem.message = strings.TrimPrefix(problem.message, "error calling ")
	}
	return problem
}

func (t *templates) parse(source string) *text {
	out := &text{}
	if len(source) > maxTemplate {
		out.err = &textError{message: "larger than the limit of a template"}
		return out
	}
	if strings.Count(source, "{{") > maxActions {
		out.err = &textError{message: fmt.Sprintf("more than %d actions", maxActions)}
		return out
	}
	out.tmpl, out.err = template.New("text").Option("missingkey=error").Funcs(t.funcs).Parse(source)
	if out.err != nil {
		out.err = t.parseError(out.err)
		return out
	}
	for _, each := range out.tmpl.Templates() {
		if each.Tree == nil || each.Root == nil {
			continue
		}
		w := &instrument{source: source, tree: each.Tree, main: each.Name() == "text"}
		w.list(each.Root, w.main)
		out.refs, out.whole = append(out.refs, w.refs...), out.whole || w.whole
		if w.err != nil {
			out.err = w.err
			return out
		}
		if w.main && len(each.Root.Nodes) == 1 && isPrint(each.Root.Nodes[0]) {
			out.single = true
			continue
		}
		each.Root.Nodes = append([]parse.Node{w.action(tmplEnter)}, append(each.Root.Nodes, w.action(tmplLeave))...)
	}
	return out
}

var noFunction = pattern(`^function "([^"]*)" not defined$`)

func (t *templates) parseError(err error) error {
	out := templateError(err)
	var problem *textError
	if !errors.As(out, &problem) {
		return out
	}
	if m := noFunction().FindStringSubmatch(problem.message); m != nil {
		problem.message = fmt.Sprintf("unknown name or function %q", m[1])
		known := append(sortedKeys(t.funcs), "if", "range", "with", "end", "else", "len", "index", "eq", "ne", "lt", "gt", "and", "or", "not")
		problem.suggestion = document.Nearest(m[1], known)
	}
	return problem
}

func isPrint(n parse.Node) bool {
	a, ok := n.(*parse.ActionNode)
	return ok && len(a.Pipe.Decl) == 0
}

// An instrument walks the parsed tree of a template: it notes the paths that it
// names, puts a count into each loop, and a check before each print.
type instrument struct {
	source string
	tree   *parse.Tree
	main   bool
	refs   []ref
	whole  bool
	err    error
}

func (w *instrument) action(name string) parse.Node {
	id := parse.NewIdentifier(name).SetTree(w.tree)
	cmd := &parse.CommandNode{NodeType: parse.NodeCommand, Args: []parse.Node{id}}
	pipe := &parse.PipeNode{NodeType: parse.NodePipe, Cmds: []*parse.CommandNode{cmd}}
	return &parse.ActionNode{NodeType: parse.NodeAction, Pipe: pipe}
}

// list walks nodes; root says whether the dot is the data that the template was
// started with.
func (w *instrument) list(l *parse.ListNode, root bool) {
	if l == nil {
		return
	}
	for _, n := range l.Nodes {
		w.node(n, root)
	}
}

func (w *instrument) node(n parse.Node, root bool) {
	switch n := n.(type) {
	case *parse.ActionNode:
		w.pipe(n.Pipe, root)
		if len(n.Pipe.Decl) == 0 {
			id := parse.NewIdentifier(tmplPrint).SetTree(w.tree).SetPos(n.Pos)
			n.Pipe.Cmds = append(n.Pipe.Cmds, &parse.CommandNode{NodeType: parse.NodeCommand, Pos: n.Pos, Args: []parse.Node{id}})
		}
	case *parse.IfNode:
		w.pipe(n.Pipe, root)
		w.list(n.List, root)
		w.list(n.ElseList, root)
	case *parse.WithNode:
		w.pipe(n.Pipe, root)
		w.list(n.List, false)
		w.list(n.ElseList, root)
	case *parse.RangeNode:
		w.pipe(n.Pipe, root)
		w.list(n.List, false)
		w.list(n.ElseList, root)
		n.List.Nodes = append([]parse.Node{w.action(tmplStep)}, n.List.Nodes...)
	case *parse.TemplateNode:
		w.pipe(n.Pipe, root)
	}
}

func (w *instrument) pipe(p *parse.PipeNode, root bool) {
	if p == nil {
		return
	}
	for _, cmd := range p.Cmds {
		w.get(cmd)
		for _, arg := range cmd.Args {
			w.arg(arg, root)
		}
	}
}

// get notes the path that a call of get names in quotes.
func (w *instrument) get(cmd *parse.CommandNode) {
	if len(cmd.Args) < 2 {
		return
	}
	id, ok := cmd.Args[0].(*parse.IdentifierNode)
	name, quoted := cmd.Args[1].(*parse.StringNode)
	if ok && quoted && id.Ident == "get" {
		w.ref(name, strings.Split(name.Text, "."), true)
	}
}

func (w *instrument) arg(n parse.Node, root bool) {
	switch n := n.(type) {
	case *parse.PipeNode:
		w.pipe(n, root)
	case *parse.IdentifierNode:
		w.named(n, []string{n.Ident})
	case *parse.ChainNode:
		if id, ok := n.Node.(*parse.IdentifierNode); ok {
			w.named(n, append([]string{id.Ident}, n.Field...))
			return
		}
		w.arg(n.Node, root)
	case *parse.FieldNode:
		if root {
			w.ref(n, n.Ident, false)
		}
	case *parse.VariableNode:
		// $ is the data that the template was started with.
		if n.Ident[0] == "$" && w.main {
			if len(n.Ident) == 1 {
				w.whole = true
				w.ref(n, []string{factsName}, false)
			} else {
				w.ref(n, n.Ident[1:], false)
			}
		}
	case *parse.DotNode:
		if root {
			w.whole = true
			w.ref(n, []string{factsName}, false)
		}
	}
}

func (w *instrument) named(n parse.Node, path []string) {
	switch path[0] {
	case factsName, varsName, eachName:
		w.ref(n, path, false)
	case tmplStep, tmplEnter, tmplLeave, tmplPrint:
		w.err = &textError{message: fmt.Sprintf("unknown name or function %q", path[0])}
	}
}

func (w *instrument) ref(n parse.Node, path []string, optional bool) {
	before := w.source[:min(int(n.Position()), len(w.source))]
	line := 1 + strings.Count(before, "\n")
	column := len([]rune(before[strings.LastIndexByte(before, '\n')+1:])) + 1
	if _, ok := n.(*parse.ChainNode); ok {
		// The position of a chain is that of its first dot.
		column = max(1, column-len(path[0]))
	}
	w.refs = append(w.refs, ref{path: path, line: line, column: column, optional: optional})
}
