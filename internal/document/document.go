// Package document reads YAML strictly: every problem with its line and
// column, bounded in size, depth and aliases, and decoded into typed values
// without a key or a type left unchecked.
//
// It is the one package that imports a YAML library. It knows documents and
// nothing of what they are about: no manifest, no template, no host.
package document

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Limits of one file. A manifest is written by people; what is larger was not,
// or is meant to do harm.
const (
	// MaxSize is the size of a file in bytes.
	MaxSize = 2 << 20
	// maxDepth is how deep lists and maps may be in one another.
	maxDepth = 64
	// maxNodes is how many values a file may hold with its aliases laid out.
	maxNodes = 500_000
	// maxDocuments and maxProblems are how many of them one file may have before
	// the rest is not looked at.
	maxDocuments = 1000
	maxProblems  = 1000
)

// A Problem is something wrong at a place of a document.
type Problem struct {
	Line, Column int
	Message      string
	// Suggestion is the word that was probably meant, or empty.
	Suggestion string
}

func (p Problem) Error() string {
	s := fmt.Sprintf("%d:%d: %s", p.Line, p.Column, p.Message)
	if p.Suggestion != "" {
		s += fmt.Sprintf(": did you mean %q?", p.Suggestion)
	}
	return s
}

// Kind is the shape of a node.
type Kind uint8

// The shapes.
const (
	Scalar Kind = iota
	List
	Map
)

// Type is the type of a scalar as it is written.
type Type uint8

// The types of scalars. Time is a date, which is text to everybody here.
const (
	Text Type = iota
	Int
	Float
	Bool
	Null
	Time
)

// A Node is one value of a document. Nodes are shared where the document has
// aliases, and never changed once they are parsed.
type Node struct {
	Kind Kind
	// Type and Value are a scalar's; Value is its text as written, without
	// quotes.
	Type  Type
	Value string
	// Quoted is true for text in quotes, Block for text after | or >.
	Quoted, Block bool
	// Templated is true when Value was made by a template, so that it takes the
	// type of what it is decoded into.
	Templated bool
	// Open is true when the value is not known yet: it fits every type and is
	// left out of what is decoded.
	Open bool
	// Hidden keeps the value out of messages.
	Hidden bool
	// Items are a list's.
	Items []*Node
	// Pairs are a map's, in the order written, no key twice.
	Pairs []Pair

	Line, Column int
}

// A Pair is one key of a map with its value. Keys are scalars.
type Pair struct {
	Key, Value *Node
}

// Get returns the value of a key, or nil.
func (n *Node) Get(key string) *Node {
	for _, p := range n.Pairs {
		if p.Key.Value == key {
			return p.Value
		}
	}
	return nil
}

// Problem returns a Problem at the node's place.
func (n *Node) Problem(format string, args ...any) Problem {
	return Problem{Line: n.Line, Column: n.Column, Message: fmt.Sprintf(format, args...)}
}

// What says what the node is, for messages: "a list", "the number 12".
func (n *Node) What() string {
	switch n.Kind {
	case List:
		return "a list"
	case Map:
		return "a map"
	}
	if n.Hidden && n.Type != Null {
		return "a value"
	}
	switch n.Type {
	case Int, Float:
		return "the number " + n.Value
	case Bool:
		return n.Value
	case Null:
		return "nothing"
	case Text, Time:
	}
	return strconv.Quote(shorten(n.Value))
}

func shorten(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// Any returns the node as plain data: map[string]any, []any, string, int,
// float64, bool, nil. A number that would not print as it is written, such as
// 0644 or 1.10, is text, so that a template writes what the author wrote.
func (n *Node) Any() any {
	switch n.Kind {
	case List:
		list := make([]any, len(n.Items))
		for i, item := range n.Items {
			list[i] = item.Any()
		}
		return list
	case Map:
		m := make(map[string]any, len(n.Pairs))
		for _, p := range n.Pairs {
			m[p.Key.Value] = p.Value.Any()
		}
		return m
	case Scalar:
	}
	switch n.Type {
	case Int:
		if i, err := strconv.Atoi(n.Value); err == nil && strconv.Itoa(i) == n.Value {
			return i
		}
	case Float:
		f, err := strconv.ParseFloat(n.Value, 64)
		if err == nil && strconv.FormatFloat(f, 'f', -1, 64) == n.Value && !math.IsInf(f, 0) {
			return f
		}
	case Bool:
		return strings.EqualFold(n.Value, "true")
	case Null:
		return nil
	case Text, Time:
	}
	return n.Value
}

// FromAny is the reverse of Any, with every node at the place of at.
func FromAny(v any, at *Node) *Node {
	n := &Node{Line: at.Line, Column: at.Column, Quoted: true}
	switch v := v.(type) {
	case nil:
		n.Type = Null
	case string:
		n.Value = v
		// Data has lost how it was written, so its text takes the type of the
		// attribute like any templated text.
		n.Templated = true
	case bool:
		n.Type, n.Value = Bool, strconv.FormatBool(v)
	case int:
		n.Type, n.Value = Int, strconv.Itoa(v)
	case float64:
		n.Type, n.Value = Float, strconv.FormatFloat(v, 'f', -1, 64)
	case []any:
		n.Kind = List
		for _, item := range v {
			n.Items = append(n.Items, FromAny(item, at))
		}
	case map[string]any:
		n.Kind = Map
		for _, key := range sortedKeys(v) {
			k := &Node{Value: key, Line: at.Line, Column: at.Column}
			n.Pairs = append(n.Pairs, Pair{Key: k, Value: FromAny(v[key], at)})
		}
	default:
		n.Value = fmt.Sprint(v)
	}
	return n
}
