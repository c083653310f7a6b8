package host

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/aymanbagabas/go-udiff"

	"trued.dev/trued/internal/resource"
)

const (
	// DiffLimit is the size up to which content is compared line by line.
	DiffLimit = 256 << 10
	// A diff is cut at this length.
	unifiedLimit = 64 << 10
	diffContext  = 3
	// The comparison of lines takes time in their product.
	diffLines = 8000
)

// Text is content as far as it is needed to show a difference.
type Text struct {
	// Data is all of the content, or nothing when there is more than DiffLimit.
	Data   []byte
	Size   int64
	SHA256 string
}

// DiffText returns the change of a field from one content to another: a unified
// diff of text, sizes and digests of anything else.
func DiffText(field, name string, before, after Text) resource.Change {
	return diffText(field, name, before, after, diffContext)
}

// DiffLines is DiffText that shows the lines that differ, and none beside them.
func DiffLines(field, name string, before, after Text) resource.Change {
	return diffText(field, name, before, after, 0)
}

func diffText(field, name string, before, after Text, context int) resource.Change {
	c := resource.Change{Field: field}
	if showable(before) && showable(after) {
		if unified := unify(name, string(before.Data), string(after.Data), context); unified != "" {
			c.Unified = cut(unified)
			return c
		}
	}
	c.Old, c.New = before.describe(), after.describe()
	return c
}

// unify returns a unified diff; nothing where there is no difference to show.
func unify(name, old, now string, context int) string {
	if old == "" && now != "" {
		return unifyNew(name, now)
	}
	unified, err := udiff.ToUnified(name, name, old, udiff.Lines(old, now), context)
	if err != nil {
		return ""
	}
	return unified
}

// unifyNew is unify where there is nothing to compare with, which is so for all
// that a host gets when it is set up.
func unifyNew(name, now string) string {
	const noNewline = "\n\\ No newline at end of file\n"
	lines := strings.Count(now, "\n")
	open := !strings.HasSuffix(now, "\n")
	if open {
		lines++
	}
	count := ""
	if lines > 1 {
		count = fmt.Sprintf(",%d", lines)
	}
	var b strings.Builder
	b.Grow(len(now) + lines + 2*len(name) + 2*len(noNewline))
	fmt.Fprintf(&b, "--- %s\n+++ %s\n@@ -0,0 +1%s @@\n", name, name, count)
	for line := range strings.Lines(now) {
		b.WriteByte('+')
		b.WriteString(line)
	}
	if open {
		b.WriteString(noNewline)
	}
	return b.String()
}

func (t Text) describe() string {
	if t.Size < 0 {
		return fmt.Sprintf("sha256 %.16s", t.SHA256)
	}
	if t.SHA256 == "" {
		return fmt.Sprintf("%d bytes", t.Size)
	}
	return fmt.Sprintf("%d bytes, sha256 %.16s", t.Size, t.SHA256)
}

// showable reports whether content is text that is short enough. Text with
// control characters is not: it could say anything to a terminal.
func showable(t Text) bool {
	if int64(len(t.Data)) != t.Size || t.Size > DiffLimit || !utf8.Valid(t.Data) {
		return false
	}
	for _, b := range t.Data {
		if b < ' ' && b != '\n' && b != '\t' && b != '\r' && b != '\f' || b == 0x7f {
			return false
		}
	}
	return bytes.Count(t.Data, []byte("\n")) <= diffLines
}

func cut(s string) string {
	if len(s) <= unifiedLimit {
		return s
	}
	end := bytes.LastIndexByte([]byte(s[:unifiedLimit]), '\n') + 1
	return fmt.Sprintf("%s… and %d bytes more\n", s[:end], len(s)-end)
}
