package agent

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"trued.dev/trued/internal/catalog"
)

// contents remembers the SHA-256 of files of the sources by their object ids,
// so that a load need not read what an earlier one has read. It is a cache: a
// file that is missing, cut off or damaged is an empty one. An object id stands
// for its content, so what is remembered cannot grow old; what is wanted no
// longer is not written again.
type contents struct {
	file string

	mu      sync.Mutex
	read    bool
	changed bool
	known   map[string]string // as the file has it
	used    map[string]string
}

var _ catalog.Digests = (*contents)(nil)

// contentsMagic is changed with the format; another is not read.
const contentsMagic = "trued contents 1\n"

func openContents(file string) *contents {
	return &contents{file: file, used: map[string]string{}}
}

// Digest implements catalog.Digests.
func (c *contents) Digest(id string) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.load()
	sum, ok := c.used[id]
	if !ok {
		if sum, ok = c.known[id]; ok {
			c.used[id] = sum
		}
	}
	return sum, ok
}

// Remember implements catalog.Digests.
func (c *contents) Remember(id, sum string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.load()
	c.used[id], c.changed = sum, true
}

// load reads the file: a line for each id, after the digest of all lines.
func (c *contents) load() {
	if c.read {
		return
	}
	c.read = true
	data, err := os.ReadFile(c.file)
	if err != nil {
		return
	}
	rest, ok := bytes.CutPrefix(data, []byte(contentsMagic))
	if !ok || len(rest) < hex.EncodedLen(sha256.Size)+1 {
		return
	}
	head, body := rest[:hex.EncodedLen(sha256.Size)], rest[hex.EncodedLen(sha256.Size)+1:]
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != string(head) {
		return
	}
	c.known = make(map[string]string, bytes.Count(body, []byte{'\n'}))
	for line := range strings.Lines(string(body)) {
		if id, sum, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " "); ok && len(sum) == len(head) {
			c.known[id] = sum
		}
	}
}

// turn begins a load of everything: what neither it nor the one before asks for
// is forgotten.
func (c *contents) turn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.load()
	if len(c.used) > 0 {
		c.known, c.used = c.used, map[string]string{}
	}
}

// shed forgets what the file has, until it is asked for.
func (c *contents) shed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.changed {
		c.read, c.known, c.used = false, nil, map[string]string{}
	}
}

// save writes the file when a load read something new.
func (c *contents) save() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.changed {
		return nil
	}
	var body bytes.Buffer
	for _, id := range slices.Sorted(maps.Keys(c.used)) {
		fmt.Fprintf(&body, "%s %s\n", id, c.used[id])
	}
	sum := sha256.Sum256(body.Bytes())
	if err := writeCache(c.file, fmt.Appendf(nil, "%s%x\n%s", contentsMagic, sum, body.Bytes())); err != nil {
		return fmt.Errorf("cannot write cache %q: %w", c.file, err)
	}
	c.changed = false
	return nil
}

// writeCache replaces a file by rename. It does not sync: a cache may be lost.
func writeCache(file string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}
