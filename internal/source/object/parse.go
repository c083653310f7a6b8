package object

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Modes of a tree's entries.
const (
	modeType      = 0o170000
	modeDirectory = 0o040000
	modeFile      = 0o100000
	modeLink      = 0o120000
	modeSubmodule = 0o160000
)

// An Entry is one name of a tree.
type Entry struct {
	Mode uint32
	Name string
	ID   ID
}

// IsTree reports whether the entry is a directory.
func (e Entry) IsTree() bool { return e.Mode&modeType == modeDirectory }

// IsFile reports whether the entry is a file, executable or not, and no link.
func (e Entry) IsFile() bool { return e.Mode&modeType == modeFile }

// IsSubmodule reports whether the entry names a commit of another repository.
func (e Entry) IsSubmodule() bool { return e.Mode&modeType == modeSubmodule }

// ParseTree reads a tree. A name that could lead elsewhere is an error.
func ParseTree(data []byte) ([]Entry, error) {
	var entries []Entry
	seen := map[string]bool{}
	for len(data) > 0 {
		head, rest, ok := bytes.Cut(data, []byte{0})
		if !ok || len(rest) < len(ID{}) {
			return nil, errors.New("tree is cut off")
		}
		digits, name, ok := strings.Cut(string(head), " ")
		if !ok {
			return nil, errors.New("tree has an entry without a mode")
		}
		mode, err := strconv.ParseUint(digits, 8, 32)
		if err != nil {
			return nil, fmt.Errorf("tree has an entry with mode %q", digits)
		}
		switch mode & modeType {
		case modeDirectory, modeFile, modeLink, modeSubmodule:
		default:
			return nil, fmt.Errorf("tree entry %q has mode %q, which is no file, directory or link", name, digits)
		}
		if err := checkName(name); err != nil {
			return nil, err
		}
		if seen[name] {
			return nil, fmt.Errorf("tree has the name %q twice", name)
		}
		seen[name] = true
		e := Entry{Mode: uint32(mode), Name: name}
		copy(e.ID[:], rest)
		data = rest[len(e.ID):]
		entries = append(entries, e)
	}
	return entries, nil
}

func checkName(name string) error {
	switch {
	case name == "", name == ".", name == "..", strings.Contains(name, "/"):
		return fmt.Errorf("tree has an entry with the name %q", name)
	case strings.EqualFold(name, ".git"):
		return fmt.Errorf("tree has an entry with the name %q, which Git keeps for itself", name)
	}
	return nil
}

// A CommitInfo is what a commit says.
type CommitInfo struct {
	Tree    ID
	Parents []ID
	Author  string
	Email   string
	// Date is when it was written, Committed when it came to be as it is.
	Date      time.Time
	Committed time.Time
	Subject   string
}

// ParseCommit reads a commit.
func ParseCommit(data []byte) (CommitInfo, error) {
	var c CommitInfo
	head, message, _ := bytes.Cut(data, []byte("\n\n"))
	for i, line := range strings.Split(string(head), "\n") {
		key, value, _ := strings.Cut(line, " ")
		var err error
		switch {
		case i == 0 && key == "tree":
			c.Tree, err = ParseID(value)
		case i == 0:
			err = errors.New("no tree")
		case key == "parent":
			var parent ID
			parent, err = ParseID(value)
			c.Parents = append(c.Parents, parent)
		case key == "author":
			c.Author, c.Email, c.Date = parsePerson(value)
		case key == "committer":
			_, _, c.Committed = parsePerson(value)
		}
		if err != nil {
			return CommitInfo{}, fmt.Errorf("malformed commit: %w", err)
		}
	}
	subject, _, _ := strings.Cut(strings.TrimLeft(string(message), "\n"), "\n")
	c.Subject = printable(subject)
	return c, nil
}

// parsePerson reads "Name <mail> seconds zone"; what it cannot read is empty.
func parsePerson(s string) (name, email string, at time.Time) {
	open, end := strings.Index(s, "<"), strings.LastIndex(s, ">")
	if open < 0 || end < open {
		return printable(s), "", time.Time{}
	}
	name, email = printable(strings.TrimSpace(s[:open])), printable(s[open+1:end])
	seconds, _, _ := strings.Cut(strings.TrimSpace(s[end+1:]), " ")
	if n, err := strconv.ParseInt(seconds, 10, 64); err == nil {
		at = time.Unix(n, 0).UTC()
	}
	return name, email, at
}

// printable makes one line of text that no terminal obeys.
func printable(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return '\uFFFD'
		}
		return r
	}, s)
	const most = 200
	if runes := []rune(s); len(runes) > most {
		s = string(runes[:most])
	}
	return s
}

// ParseTag returns what an annotated tag points to.
func ParseTag(data []byte) (ID, Kind, error) {
	lines := strings.SplitN(string(data), "\n", 3)
	if len(lines) < 2 {
		return ID{}, 0, errors.New("malformed tag")
	}
	target, ok := strings.CutPrefix(lines[0], "object ")
	if !ok {
		return ID{}, 0, errors.New("malformed tag: no object")
	}
	id, err := ParseID(target)
	if err != nil {
		return ID{}, 0, fmt.Errorf("malformed tag: %w", err)
	}
	word, _ := strings.CutPrefix(lines[1], "type ")
	for k := Commit; k <= Tag; k++ {
		if k.String() == word {
			return id, k, nil
		}
	}
	return ID{}, 0, fmt.Errorf("malformed tag: unknown type %q", word)
}
