package policy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/conf"
	exprfile "github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"

	"trued.dev/trued/internal/document"
)

const (
	maxExpression = 4096
	maxNodes      = 500
	maxMemory     = 100_000
)

// builtins are the functions of the expression language that are kept: those
// that are the same each time.
func builtins() []string {
	return []string{
		"all", "none", "any", "one", "filter", "map", "count", "len",
		"trim", "trimPrefix", "trimSuffix", "hasPrefix", "hasSuffix", "lower", "upper", "split", "join", "string",
	}
}

// A result is what an expression is about.
type result int

const (
	ofResource result = iota
	ofRun
)

// An expression is a compiled text that gives true or false.
type expression struct{ program *vm.Program }

func compile(text string, what result) (*expression, error) {
	if len(text) > maxExpression {
		return nil, fmt.Errorf("an expression of more than %d bytes", maxExpression)
	}
	var env any = Names{}
	if what == ofRun {
		env = RunNames{}
	}
	options := []expr.Option{
		expr.Env(env), expr.AsBool(), expr.MaxNodes(maxNodes), expr.DisableAllBuiltins(), expr.Optimize(false),
		expr.Function("under", under, new(func(string, string) bool)),
		func(c *conf.Config) { c.Strict = true },
	}
	for _, name := range builtins() {
		options = append(options, expr.EnableBuiltin(name))
	}
	program, err := expr.Compile(text, options...)
	if err != nil {
		return nil, explain(err)
	}
	return &expression{program}, nil
}

// eval gives the value. What cannot be evaluated, such as the first of no
// paths, is an error, which the caller takes for the worst.
func (e *expression) eval(env any) (bool, error) {
	machine := vm.VM{MemoryBudget: maxMemory}
	value, err := machine.Run(e.program, env)
	if err != nil {
		return false, explain(err)
	}
	yes, ok := value.(bool)
	if !ok {
		return false, fmt.Errorf("it gives %v, which is neither true nor false", value)
	}
	return yes, nil
}

// explain drops the drawing from an error of the library.
func explain(err error) error {
	var known *exprfile.Error
	if !errors.As(err, &known) {
		return err
	}
	message := known.Message
	if name, ok := strings.CutPrefix(message, "unknown name "); ok {
		name, _, _ = strings.Cut(name, " ")
		message = fmt.Sprintf("unknown name %q", name)
		if near := document.Nearest(name, append(nameList(), builtins()...)); near != "" {
			message += fmt.Sprintf(": did you mean %q?", near)
		}
	}
	return fmt.Errorf("at character %d: %s", known.Column+1, message)
}

// under is the function of that name.
func under(args ...any) (any, error) {
	name, _ := args[0].(string)
	dir, _ := args[1].(string)
	return below(name, dir), absolute([]string{dir})
}

// below reports whether a path is a directory or in it.
func below(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}
