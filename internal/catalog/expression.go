package catalog

import (
	"errors"
	"fmt"
	"strings"

	"github.com/expr-lang/expr"
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
	case nil, *sealed:
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
	if err := x.names.unlooked(text, e.refs); err != nil {
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
