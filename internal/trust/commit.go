package trust

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"trued.dev/trued/internal/source/object"
)

// A commit is what the decision takes of one.
type commit struct {
	id        object.ID
	parents   []object.ID
	committed time.Time
	// committer is the address that it gives; a tag's is its tagger.
	committer string
	// signature is armored, payload what it was made over; none, where it has none.
	signature, payload []byte
}

// parseCommit reads a commit as strictly as Git writes one: what could be read in
// two ways is not read at all.
func parseCommit(id object.ID, raw []byte) (*commit, error) {
	c := &commit{id: id}
	end := bytes.Index(raw, []byte("\n\n"))
	if end < 0 {
		return nil, errors.New("it has no message")
	}
	head := raw[:end+1]
	if bytes.IndexByte(head, 0) >= 0 {
		return nil, errors.New("its header has a NUL")
	}
	var seen []string
	for len(head) > 0 {
		key, value, whole := cutHeader(&head)
		if err := c.header(key, value, seen); err != nil {
			return nil, err
		}
		seen = append(seen, key)
		if key != "gpgsig" {
			c.payload = append(c.payload, whole...)
		}
	}
	if !slices.Contains(seen, "committer") {
		return nil, errors.New("it has no committer")
	}
	c.payload = append(c.payload, raw[end+1:]...)
	return c, nil
}

// cutHeader cuts off one header, with the lines that continue it.
func cutHeader(head *[]byte) (key string, value, whole []byte) {
	end := 0
	for {
		n := bytes.IndexByte((*head)[end:], '\n')
		end += n + 1
		if end >= len(*head) || (*head)[end] != ' ' {
			break
		}
	}
	whole = (*head)[:end]
	*head = (*head)[end:]
	word, rest, _ := bytes.Cut(whole[:end-1], []byte(" "))
	return string(word), bytes.ReplaceAll(rest, []byte("\n "), []byte("\n")), whole
}

// header takes one header. The four that every commit has come first, in their
// order.
func (c *commit) header(key string, value []byte, seen []string) error {
	last := ""
	if len(seen) > 0 {
		last = seen[len(seen)-1]
	}
	order := map[string]bool{
		"tree":      last == "",
		"parent":    last == "tree" || last == "parent",
		"author":    last == "tree" || last == "parent",
		"committer": last == "author",
	}
	fits, fixed := order[key]
	switch {
	case fixed && !fits:
		return fmt.Errorf("its header has %q out of place", key)
	case !fixed && !slices.Contains(seen, "committer"):
		return fmt.Errorf("its header has %q out of place", key)
	case fixed && bytes.IndexByte(value, '\n') >= 0:
		return fmt.Errorf("its header has %q on several lines", key)
	case key == "gpgsig" && c.signature != nil:
		return errors.New("it has two signatures")
	case strings.HasPrefix(key, "gpgsig-"):
		return fmt.Errorf("it has a signature of another kind, %s", key)
	}
	switch key {
	case "parent":
		id, err := object.ParseID(string(value))
		if err != nil {
			return fmt.Errorf("its parent is malformed: %w", err)
		}
		c.parents = append(c.parents, id)
	case "committer":
		if err := c.person(string(value)); err != nil {
			return fmt.Errorf("its committer is malformed: %w", err)
		}
	case "gpgsig":
		c.signature = append([]byte{}, value...)
	}
	return nil
}

// person takes who made it, and when.
func (c *commit) person(s string) error {
	open, end := strings.LastIndex(s, " <"), strings.LastIndex(s, "> ")
	if open < 0 || end < open {
		return errors.New("it has no address")
	}
	seconds, zone, _ := strings.Cut(s[end+2:], " ")
	n, err := strconv.ParseUint(seconds, 10, 40)
	if err != nil || !zoned(zone) {
		return errors.New("the date cannot be read")
	}
	c.committer, c.committed = s[open+2:end], time.Unix(int64(n), 0).UTC()
	return nil
}

// zoned reports whether a zone is as Git writes it, such as +0100. What time it is
// does not depend on it.
func zoned(s string) bool {
	if len(s) != 5 || s[0] != '+' && s[0] != '-' {
		return false
	}
	_, err := strconv.ParseUint(s[1:], 10, 16)
	return err == nil
}
