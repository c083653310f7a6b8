package document

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Parse reads all documents of a file. With problems, what it returns beside
// them is not complete.
func Parse(data []byte) (docs []*Node, problems []Problem) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if len(data) > MaxSize {
		return nil, []Problem{{1, 1, fmt.Sprintf("larger than %d MiB", MaxSize>>20), ""}}
	}
	if p, ok := notText(data); !ok {
		return nil, []Problem{p}
	}
	c := &converter{done: map[*yaml.Node]*Node{}, sizes: map[*Node]int{}}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var root yaml.Node
		err := decodeNext(dec, &root)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			c.problems = append(c.problems, syntaxProblem(err, data))
			break
		}
		if root.Kind != yaml.DocumentNode || len(root.Content) == 0 {
			continue
		}
		if len(docs) == maxDocuments {
			c.problem(root.Content[0], "more than %d documents", maxDocuments)
			break
		}
		doc := c.convert(root.Content[0], 0)
		if c.stopped {
			break
		}
		docs = append(docs, doc)
	}
	return docs, c.problems
}

// decodeNext reads one document. The library panics on some malformed input;
// that is a malformed document and not the end of the agent.
func decodeNext(dec *yaml.Decoder, root *yaml.Node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("yaml: malformed: %v", r)
		}
	}()
	return dec.Decode(root)
}

func notText(data []byte) (Problem, bool) {
	if utf8.Valid(data) && bytes.IndexByte(data, 0) < 0 {
		return Problem{}, true
	}
	line, column := 1, 1
	for rest := data; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		if r == 0 || r == utf8.RuneError && size == 1 {
			break
		}
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
		rest = rest[size:]
	}
	return Problem{line, column, "not a text file in UTF-8", ""}, false
}

// syntaxProblem gives an error of the library a place. It knows the line alone,
// so the column is that of the first word in it.
func syntaxProblem(err error, data []byte) Problem {
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if m := regexp.MustCompile(`^line (\d+): `).FindStringSubmatch(msg); m != nil {
		line, _ = strconv.Atoi(m[1])
		msg = msg[len(m[0]):]
	}
	column := 1
	if lines := bytes.SplitN(data, []byte("\n"), line+1); line <= len(lines) {
		text := lines[line-1]
		if bytes.HasPrefix(bytes.TrimLeft(text, " "), []byte("\t")) {
			msg += " (indent with spaces, not tabs)"
		}
		column = len(text) - len(bytes.TrimLeft(text, " \t")) + 1
	}
	return Problem{line, column, "malformed YAML: " + msg, ""}
}

type converter struct {
	done     map[*yaml.Node]*Node // nil while a node is being converted
	sizes    map[*Node]int
	problems []Problem
	stopped  bool
}

func (c *converter) problem(at *yaml.Node, format string, args ...any) {
	c.problems = append(c.problems, Problem{Line: at.Line, Column: at.Column, Message: fmt.Sprintf(format, args...)})
	c.stopped = c.stopped || len(c.problems) >= maxProblems
}

func (c *converter) stop(at *yaml.Node, format string, args ...any) {
	if !c.stopped {
		c.stopped = true
		c.problem(at, format, args...)
	}
}

// convert makes a Node of a node. What is aliased is converted once and shared;
// its size counts at each place, so that a bomb is found before anybody walks
// through it.
func (c *converter) convert(y *yaml.Node, depth int) *Node {
	if c.stopped {
		return &Node{Type: Null}
	}
	if y.Kind == yaml.AliasNode {
		return c.alias(y, depth)
	}
	if depth > maxDepth {
		c.stop(y, "nested deeper than %d levels", maxDepth)
		return &Node{Type: Null}
	}
	if y.Anchor != "" {
		c.done[y] = nil
	}
	n := &Node{Line: y.Line, Column: y.Column}
	size := 1
	switch y.Kind {
	case yaml.SequenceNode:
		c.tag(y, "!!seq")
		n.Kind = List
		n.Items = make([]*Node, 0, len(y.Content))
		for _, item := range y.Content {
			child := c.convert(item, depth+1)
			n.Items = append(n.Items, child)
			size += c.size(child)
		}
	case yaml.MappingNode:
		c.tag(y, "!!map")
		n.Kind = Map
		size += c.pairs(n, y, depth)
	default:
		c.scalar(n, y)
	}
	if size > maxNodes {
		c.stop(y, "more than %d values once its aliases are laid out", maxNodes)
	}
	if n.Kind != Scalar {
		c.sizes[n] = min(size, maxNodes+1)
	}
	if y.Anchor != "" {
		c.done[y] = n
	}
	return n
}

func (c *converter) size(n *Node) int {
	if n.Kind == Scalar {
		return 1
	}
	return c.sizes[n]
}

func (c *converter) alias(y *yaml.Node, depth int) *Node {
	n, begun := c.done[y.Alias]
	switch {
	case n != nil:
		return n
	case begun:
		c.stop(y, "alias *%s is inside of what it stands for", y.Value)
		return &Node{Type: Null}
	default:
		return c.convert(y.Alias, depth)
	}
}

func (c *converter) pairs(n *Node, y *yaml.Node, depth int) (size int) {
	n.Pairs = make([]Pair, 0, len(y.Content)/2)
	first := firsts{}
	if len(y.Content) > 32 {
		first.byKey = make(map[string]*Node, len(y.Content)/2)
	}
	var merges []*yaml.Node
	for i := 0; i+1 < len(y.Content) && !c.stopped; i += 2 {
		key, value := y.Content[i], y.Content[i+1]
		for key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			c.problem(y.Content[i], "a key must be plain text")
			continue
		}
		if key.Tag == "!!merge" {
			merges = append(merges, value)
			continue
		}
		if before := first.find(n.Pairs, key.Value); before != nil {
			c.problem(y.Content[i], "key %q is written twice, first in line %d", key.Value, before.Line)
			continue
		}
		k := &Node{Value: key.Value, Line: y.Content[i].Line, Column: y.Content[i].Column}
		v := c.convert(value, depth+1)
		n.Pairs = append(n.Pairs, Pair{Key: k, Value: v})
		first.add(k)
		size += 1 + c.size(v)
	}
	for _, m := range merges {
		size += c.merge(n, m, depth)
	}
	return size
}

// firsts finds a key that was there before: in a large map by an index, in the
// many small ones by looking.
type firsts struct{ byKey map[string]*Node }

func (f firsts) find(pairs []Pair, key string) *Node {
	if f.byKey != nil {
		return f.byKey[key]
	}
	for _, p := range pairs {
		if p.Key.Value == key {
			return p.Key
		}
	}
	return nil
}

func (f firsts) add(key *Node) {
	if f.byKey != nil {
		f.byKey[key.Value] = key
	}
}

// merge lays the keys of a `<<` map, or list of them, below those of n.
func (c *converter) merge(n *Node, y *yaml.Node, depth int) (size int) {
	from := c.convert(y, depth+1)
	maps := []*Node{from}
	if from.Kind == List {
		maps = from.Items
	}
	for _, m := range maps {
		if m.Kind != Map {
			c.problem(y, "<< takes a map or a list of maps")
			return size
		}
		have := make(map[string]bool, len(n.Pairs))
		for _, p := range n.Pairs {
			have[p.Key.Value] = true
		}
		for _, p := range m.Pairs {
			if !have[p.Key.Value] {
				n.Pairs = append(n.Pairs, p)
				size += 1 + c.size(p.Value)
			}
		}
	}
	return size
}

func (c *converter) tag(y *yaml.Node, want string) {
	if tag := y.ShortTag(); tag != want && tag != "!" {
		c.problem(y, "unknown tag %s", y.Tag)
	}
}

func (c *converter) scalar(n *Node, y *yaml.Node) {
	n.Value = y.Value
	n.Quoted = y.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0
	n.Block = y.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0
	switch tag := y.ShortTag(); tag {
	case "!!str", "!!merge":
	case "!!int":
		n.Type = Int
	case "!!float":
		n.Type = Float
	case "!!bool":
		n.Type = Bool
	case "!!null":
		n.Type = Null
	case "!!timestamp":
		n.Type = Time
	case "!!binary":
		raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(y.Value), ""))
		if err != nil {
			c.problem(y, "!!binary must be base64")
		}
		n.Value = string(raw)
	default:
		c.problem(y, "unknown tag %s", tag)
	}
}

// Encode writes plain data as YAML, without a newline at the end.
func Encode(v any) (string, error) {
	var b strings.Builder
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(v); err != nil {
		return "", fmt.Errorf("cannot write YAML: %w", err)
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}
