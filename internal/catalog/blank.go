package catalog

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"trued.dev/trued/internal/document"
)

// quotedPart matches what a message quotes.
var quotedPart = pattern(`"(?:[^"\\]|\\.)*"`)

// blank takes the values of a sensitive resource out of a message of its module,
// which quotes a value where it says what is wrong with it.
func blank(message string, attributes []attribute) string {
	var values []string
	for _, a := range attributes {
		values = texts(values, a.value)
	}
	message = quotedPart().ReplaceAllStringFunc(message, func(part string) string {
		text, err := strconv.Unquote(part)
		if err != nil || text == "" {
			return part
		}
		if slices.ContainsFunc(values, func(v string) bool { return strings.Contains(v, text) }) {
			return `"…"`
		}
		return part
	})
	slices.SortFunc(values, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	const short = 4 // such as "true", which tells nothing and is in many words
	for _, v := range values {
		if len(v) > short {
			message = strings.ReplaceAll(message, v, "…")
		}
	}
	return message
}

// blankAll is blank for a resource that uses a secret. What was made of one cannot
// be told from other text, so of what is quoted only the resource's own name and
// short words stay, such as the spelling of a mode, which are nowhere in it.
func blankAll(message string, b *built, opened map[string]string) string {
	const word = 12
	message = quotedPart().ReplaceAllStringFunc(blank(message, b.attributes), func(part string) string {
		text, err := strconv.Unquote(part)
		if err == nil && (text == b.Address.Name || len(text) <= word && !b.has(text, opened)) {
			return part
		}
		return `"…"`
	})
	for name := range b.secrets {
		for line := range strings.Lines(opened[name]) {
			if line = strings.TrimSpace(line); line != "" {
				message = strings.ReplaceAll(message, line, "…")
			}
		}
	}
	return message
}

// has reports whether a text is in a secret of the resource, or in what was made of
// them.
func (b *built) has(text string, opened map[string]string) bool {
	in := func(s string) bool { return strings.Contains(strings.ToLower(s), strings.ToLower(text)) }
	for name := range b.secrets {
		if in(opened[name]) {
			return true
		}
	}
	var values []string
	for _, a := range b.attributes {
		values = texts(values, a.value)
	}
	return slices.ContainsFunc(append(values, b.made...), in)
}

// texts adds all text in a node to a list.
func texts(list []string, n *document.Node) []string {
	if n.Kind == document.Scalar {
		return append(list, n.Value)
	}
	for _, item := range n.Items {
		list = texts(list, item)
	}
	for _, p := range n.Pairs {
		list = texts(append(list, p.Key.Value), p.Value)
	}
	return list
}
