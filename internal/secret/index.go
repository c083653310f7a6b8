package secret

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// IndexFile remembers, in a repository, which of age's own keys each secret was
// encrypted for, since such a file does not say so itself. It is no proof:
// whoever can commit can write anything into it. What it is good for is that a
// secret which somebody forgot to encrypt anew is noticed without a key.
const IndexFile = ".trued/secrets"

// An Index is such a file: by path, the digest of the encrypted file and the keys.
type Index map[string]Indexed

// An Indexed is one secret of an Index.
type Indexed struct {
	SHA256 string
	Keys   []string
}

// ParseIndex reads an index. A line that is none is passed over: then the keys
// of that secret are not known.
func ParseIndex(data []byte) Index {
	index := Index{}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") || len(fields[0]) != hex.EncodedLen(sha256.Size) {
			continue
		}
		index[fields[1]] = Indexed{SHA256: fields[0], Keys: fields[2:]}
	}
	return index
}

// Bytes is what ParseIndex reads.
func (x Index) Bytes() []byte {
	var b strings.Builder
	b.WriteString("# Written by trued secret: which age keys each secret is encrypted for.\n")
	for _, name := range slices.Sorted(maps.Keys(x)) {
		fmt.Fprintf(&b, "%s %s", x[name].SHA256, name)
		for _, k := range x[name].Keys {
			b.WriteString(" " + k)
		}
		b.WriteString("\n")
	}
	return []byte(b.String())
}

// Put notes whom an encrypted file is for.
func (x Index) Put(name string, data []byte, to []Recipient) {
	var keys []string
	for _, r := range to {
		if r.Tag == "" {
			keys = append(keys, r.Key)
		}
	}
	delete(x, name)
	// A name with a space in it cannot be in a line; such a file is counted alone.
	if len(keys) > 0 && !strings.ContainsAny(name, " \t\n") {
		x[name] = Indexed{SHA256: digest(data), Keys: keys}
	}
}

// Keys returns the age keys that an encrypted file is for, or nil where that is
// not known: it was encrypted by something else since.
func (x Index) Keys(name string, data []byte) []string {
	if e, ok := x[name]; ok && e.SHA256 == digest(data) {
		return e.Keys
	}
	return nil
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
