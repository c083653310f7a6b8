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

// blankAll takes everything that is quoted out of a message about a resource
// that uses a secret, but for its own name, and each line of the secrets: what
// was made of them cannot be told from other text.
func blankAll(message string, b *built, opened map[string]string) string {
	message = quotedPart().ReplaceAllStringFunc(blank(message, b.attributes), func(part string) string {
		if text, err := strconv.Unquote(part); err == nil && text == b.Address.Name {
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
