package catalog

import (
	"fmt"
	"strings"

	"github.com/expr-lang/expr/ast"
)

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
