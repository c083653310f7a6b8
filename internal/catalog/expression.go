package catalog

import (
	"errors"
	"fmt"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/checker"
	"github.com/expr-lang/expr/compiler"
	"github.com/expr-lang/expr/conf"
	exprfile "github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"

	"trued.dev/trued/internal/document"
)

const (
	maxExpression   = 4096
	maxExprNodes    = 1000
	maxExprNesting  = 3 // predicates within predicates
	maxExprMemory   = 100_000
	exprStep        = "__step"
	exprMember      = "__member"
	exprPlus        = "__plus"
	notInExpression = "is not available in expressions"
)

// builtins are the functions of the expression language that are kept: those
// that are the same each time and make nothing that is not counted.
func builtins() []string {
	return []string{
		"all", "none", "any", "one", "filter", "map", "find", "findIndex", "count",
		"len", "abs", "ceil", "floor", "round", "int", "float", "trim", "trimPrefix", "trimSuffix",
		"indexOf", "lastIndexOf", "hasPrefix", "hasSuffix", "first", "last",
	}
}

// An expression is compiled once for a catalog, and evaluated for each resource.
type expression struct {
	program *vm.Program
	refs    []ref
	err     error
}

// An expressions compiles and evaluates expressions over names.
type expressions struct {
	names    *names
	budget   budget
	compiled map[string]*expression
	factType types.Type
	varType  types.Type
}

func newExpressions(n *names) *expressions {
	return &expressions{
		names:    n,
		compiled: map[string]*expression{},
		factType: typeOf(n.facts, n.unknown, ""),
		varType:  typeOf(n.vars.data, nil, ""),
	}
}

// typeOf is the type of data as it is: a map has its keys and no others. What
// is unknown may be anything.
func typeOf(v any, unknown map[string]string, path string) types.Type {
	switch v := v.(type) {
	case map[string]any:
		m := types.Map{}
		for key, value := range v {
			m[key] = typeOf(value, unknown, path+key+".")
		}
		for u := range unknown {
			if key, ok := strings.CutPrefix(u, path); ok && !strings.Contains(key, ".") {
				m[key] = types.Any
			}
		}
		return m
	case []any:
		return types.Array(types.Any)
	case nil:
		return types.Any
	default:
		return types.TypeOf(v)
	}
}

// eval evaluates an expression and returns what it named. Errors are
// textErrors, *textError or *openError.
func (x *expressions) eval(text string) (any, []ref, error) {
	e := x.compiled[text]
	if e == nil {
		e = x.compile(text)
		x.compiled[text] = e
	}
	if err := x.names.check(e.refs); err != nil {
		return nil, e.refs, err
	}
	if e.err != nil {
		return nil, e.refs, e.err
	}
	env := map[string]any{factsName: x.names.facts, varsName: x.names.vars.data}
	if x.names.each != nil {
		env[eachName] = x.names.each.data()
	}
	x.budget.reset()
	machine := vm.VM{MemoryBudget: maxExprMemory}
	value, err := machine.Run(e.program, env)
	if err != nil {
		return nil, e.refs, exprError(err)
	}
	return value, e.refs, nil
}

func (x *expressions) compile(text string) *expression {
	e := &expression{}
	if len(text) > maxExpression {
		e.err = &textError{message: fmt.Sprintf("an expression of more than %d bytes", maxExpression)}
		return e
	}
	config := x.config()
	tree, err := parser.ParseWithConfig(text, config)
	if err != nil {
		e.err = exprError(err)
		return e
	}
	r := &rewriter{text: text}
	r.rewrite(&tree.Node)
	e.refs = r.refs
	if r.err != nil {
		e.err = r.err
		return e
	}
	if _, err = checker.Check(tree, config); err != nil {
		e.err = exprError(err)
		return e
	}
	e.program, err = compiler.Compile(tree, config)
	if err != nil {
		e.err = exprError(err)
	}
	return e
}

func (x *expressions) config() *conf.Config {
	config := conf.CreateNew()
	config.Optimize = false
	for _, option := range []expr.Option{
		expr.Env(types.Map{
			factsName: x.factType,
			varsName:  x.varType,
			eachName:  types.Map{"key": types.Any, "value": types.Any},
		}),
		expr.MaxNodes(maxExprNodes),
		expr.DisableAllBuiltins(),
		expr.Function(exprStep, func(...any) (any, error) { return true, x.budget.step() }, new(func() bool)),
		expr.Function(exprMember, x.member, new(func(any, any) any)),
		expr.Function(exprPlus, x.plus, new(func(any, any) any)),
		expr.Function("get", x.get, new(func(string, any) any)),
		expr.Function("join", x.join, new(func([]any) string), new(func([]any, string) string), new(func(any, string) string)),
		expr.Function("concat", x.concat, new(func(...any) []any)),
		expr.Function("string", x.text, new(func(any) string)),
		expr.Function("upper", x.onText(strings.ToUpper), new(func(string) string)),
		expr.Function("lower", x.onText(strings.ToLower), new(func(string) string)),
		expr.Function("split", x.split, new(func(string, string) []any)),
		expr.Function("keys", func(args ...any) (any, error) { return keys(&x.budget, args[0]) }, new(func(any) []any)),
		expr.Function("values", x.values, new(func(any) []any)),
		expr.Function("sort", func(args ...any) (any, error) { return sorted(&x.budget, args[0]) }, new(func(any) []any)),
	} {
		option(config)
	}
	for _, name := range builtins() {
		expr.EnableBuiltin(name)(config)
	}
	for name := range config.Disabled {
		delete(config.Builtins, name)
	}
	return config
}

// exprError drops the drawing from an error of the library, and makes its place
// ours.
func exprError(err error) error {
	var known *textError
	if errors.As(err, &known) {
		return known
	}
	var open *openError
	if errors.As(err, &open) {
		return open
	}
	var fe *exprfile.Error
	if !errors.As(err, &fe) {
		return &textError{message: err.Error()}
	}
	problem := &textError{line: fe.Line, column: fe.Column + 1, message: fe.Message}
	if strings.HasPrefix(problem.message, "memory budget") {
		problem.message = fmt.Sprintf("makes more than %d values", maxExprMemory)
	}
	if name, ok := strings.CutPrefix(fe.Message, "unknown name "); ok {
		name, _, _ = strings.Cut(name, " ")
		problem.message = fmt.Sprintf("unknown name %q", name)
		all := append([]string{
			factsName, varsName, eachName, "get", "join", "concat", "string", "upper", "lower", "split", "keys", "values", "sort",
		}, builtins()...)
		problem.suggestion = document.Nearest(name, all)
	}
	return problem
}

// A rewriter walks the syntax tree of an expression before it is compiled: it
// notes each path from facts, vars and each; makes every other access to a
// member one that fails when there is no such member; and counts turns of loops.
type rewriter struct {
	text   string
	refs   []ref
	nested int
	err    error
}

func (r *rewriter) fail(n ast.Node, format string, args ...any) {
	if r.err == nil {
		line, column := r.place(n)
		r.err = &textError{line: line, column: column, message: fmt.Sprintf(format, args...)}
	}
}

func (r *rewriter) place(n ast.Node) (line, column int) {
	runes := []rune(r.text)
	before := string(runes[:min(n.Location().From, len(runes))])
	line = 1 + strings.Count(before, "\n")
	return line, len([]rune(before[strings.LastIndexByte(before, '\n')+1:])) + 1
}

// chain returns the path of members that ends in the node, and where it starts.
func chain(n ast.Node) (path []string, start ast.Node) {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		switch n.Value {
		case factsName, varsName, eachName:
			return []string{n.Value}, n
		}
	case *ast.MemberNode:
		key, ok := n.Property.(*ast.StringNode)
		if !ok {
			return nil, nil
		}
		if path, start = chain(n.Node); path != nil {
			return append(path, key.Value), start
		}
	case *ast.ChainNode:
		return chain(n.Node)
	}
	return nil, nil
}

func call(at ast.Node, name string, args ...ast.Node) ast.Node {
	id := &ast.IdentifierNode{Value: name}
	id.SetLocation(at.Location())
	c := &ast.CallNode{Callee: id, Arguments: args}
	c.SetLocation(at.Location())
	return c
}

func (r *rewriter) all(nodes []ast.Node) {
	for i := range nodes {
		r.rewrite(&nodes[i])
	}
}

func (r *rewriter) rewrite(at *ast.Node) { //nolint:gocyclo // one case for each node of the language
	if *at == nil || r.err != nil {
		return
	}
	if path, start := chain(*at); path != nil {
		line, column := r.place(start)
		r.refs = append(r.refs, ref{path: path, line: line, column: column})
		if path[0] != eachName || len(path) <= 2 {
			return
		}
	}
	switch n := (*at).(type) {
	case *ast.IdentifierNode:
		if strings.HasPrefix(n.Value, "$") || strings.HasPrefix(n.Value, "__") {
			r.fail(n, "%s %s", n.Value, notInExpression)
		}
	case *ast.UnaryNode:
		r.rewrite(&n.Node)
	case *ast.BinaryNode:
		r.rewrite(&n.Left)
		r.rewrite(&n.Right)
		if n.Operator == "+" {
			ast.Patch(at, call(n, exprPlus, n.Left, n.Right))
		}
	case *ast.ChainNode:
		r.rewrite(&n.Node)
	case *ast.MemberNode:
		r.rewrite(&n.Node)
		r.rewrite(&n.Property)
		ast.Patch(at, call(n, exprMember, n.Node, n.Property))
	case *ast.SliceNode:
		r.rewrite(&n.Node)
		if n.From != nil {
			r.rewrite(&n.From)
		}
		if n.To != nil {
			r.rewrite(&n.To)
		}
	case *ast.CallNode:
		r.call(n)
	case *ast.BuiltinNode:
		r.all(n.Arguments)
	case *ast.PredicateNode:
		r.predicate(n)
	case *ast.ConditionalNode:
		r.rewrite(&n.Cond)
		r.rewrite(&n.Exp1)
		r.rewrite(&n.Exp2)
	case *ast.ArrayNode:
		r.all(n.Nodes)
	case *ast.MapNode:
		r.all(n.Pairs)
	case *ast.PairNode:
		r.rewrite(&n.Key)
		r.rewrite(&n.Value)
	case *ast.VariableDeclaratorNode:
		r.fail(n, "let %s", notInExpression)
	case *ast.SequenceNode:
		r.fail(n, "; %s", notInExpression)
	}
}

func (r *rewriter) call(n *ast.CallNode) {
	callee, ok := n.Callee.(*ast.IdentifierNode)
	if !ok || strings.HasPrefix(callee.Value, "__") {
		r.fail(n, "only functions can be called")
		return
	}
	if callee.Value == "get" && len(n.Arguments) > 0 {
		if name, ok := n.Arguments[0].(*ast.StringNode); ok {
			line, column := r.place(name)
			r.refs = append(r.refs, ref{path: strings.Split(name.Value, "."), line: line, column: column, optional: true})
		}
	}
	r.all(n.Arguments)
}

func (r *rewriter) predicate(n *ast.PredicateNode) {
	r.nested++
	if r.nested > maxExprNesting {
		r.fail(n, "loops more than %d within each other", maxExprNesting)
		return
	}
	r.rewrite(&n.Node)
	r.nested--
	body := &ast.SequenceNode{Nodes: []ast.Node{call(n, exprStep), n.Node}}
	body.SetLocation(n.Location())
	n.Node = body
}

// member is a.b, a[b]: what is not there is an error, not nothing.
func (x *expressions) member(args ...any) (any, error) {
	switch of := args[0].(type) {
	case map[string]any:
		key, ok := args[1].(string)
		if !ok {
			key = fmt.Sprint(args[1])
		}
		if value, ok := of[key]; ok {
			return value, nil
		}
		return nil, &textError{
			message:    fmt.Sprintf("there is no %q in the map", key),
			suggestion: document.Nearest(key, sortedKeys(of)),
		}
	case []any:
		i, ok := args[1].(int)
		if !ok {
			return nil, fmt.Errorf("a list has no %v", args[1])
		}
		if i < 0 {
			i += len(of)
		}
		if i < 0 || i >= len(of) {
			return nil, fmt.Errorf("there is no item %v in a list of %d", args[1], len(of))
		}
		return of[i], nil
	}
	return nil, fmt.Errorf("%s has no %v", what(args[0]), args[1])
}

func (x *expressions) plus(args ...any) (any, error) {
	switch a := args[0].(type) {
	case string:
		if b, ok := args[1].(string); ok {
			return a + b, x.budget.spend(len(a) + len(b))
		}
	case int:
		switch b := args[1].(type) {
		case int:
			return a + b, nil
		case float64:
			return float64(a) + b, nil
		}
	case float64:
		switch b := args[1].(type) {
		case int:
			return a + float64(b), nil
		case float64:
			return a + b, nil
		}
	}
	return nil, fmt.Errorf("cannot add %s and %s", what(args[0]), what(args[1]))
}

func (x *expressions) get(args ...any) (any, error) {
	name, ok := args[0].(string)
	if !ok {
		return nil, errors.New("get wants a path in quotes, such as \"vars.x\"")
	}
	return x.names.get(name, args[1])
}

func (x *expressions) join(args ...any) (any, error) {
	list, ok := args[0].([]any)
	if !ok {
		return nil, fmt.Errorf("join wants a list, not %s", what(args[0]))
	}
	sep := ""
	if len(args) > 1 {
		sep, _ = args[1].(string)
	}
	return joined(&x.budget, list, sep)
}

func (x *expressions) concat(args ...any) (any, error) {
	out := []any{}
	for _, a := range args {
		list, ok := a.([]any)
		if !ok {
			return nil, fmt.Errorf("concat wants lists, not %s", what(a))
		}
		if err := x.budget.spend(wordSize * len(list)); err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	return out, nil
}

func (x *expressions) onText(do func(string) string) func(...any) (any, error) {
	return func(args ...any) (any, error) {
		s, err := scalarText(args[0])
		if err == nil {
			err = x.budget.spend(len(s))
		}
		if err != nil {
			return nil, err
		}
		return do(s), nil
	}
}

func (x *expressions) split(args ...any) (any, error) {
	sep, ok := args[1].(string)
	if !ok {
		return nil, fmt.Errorf("split wants text to split at, not %s", what(args[1]))
	}
	return parts(&x.budget, sep, args[0])
}

// values are those of a map, in the order of its keys.
func (x *expressions) values(args ...any) (any, error) {
	m, ok := args[0].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("values wants a map, not %s", what(args[0]))
	}
	out := make([]any, 0, len(m))
	for _, key := range sortedKeys(m) {
		out = append(out, m[key])
	}
	return out, x.budget.spend(wordSize * len(m))
}

func (x *expressions) text(args ...any) (any, error) { return scalarText(args[0]) }
