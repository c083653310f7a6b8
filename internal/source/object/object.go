// Package object is Git's objects as the privileged process sees them: plain
// type, size and bytes that hash to their id, a store of them on disk, and a
// commit's tree as an fs.FS.
//
// It reads no network and resolves no deltas. Whatever it returns was hashed
// first, with collision detection.
package object

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strconv"

	"github.com/pjbgf/sha1cd"
)

// An ID is the SHA-1 name of an object.
type ID [20]byte

// ParseID reads forty hexadecimal digits.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 2*len(id) {
		return ID{}, fmt.Errorf("%q is not the full name of a commit: write all 40 hexadecimal digits", s)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ID{}, fmt.Errorf("%q is not the full name of a commit: write all 40 hexadecimal digits", s)
	}
	return id, nil
}

// String returns forty hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Short returns as many digits as people read.
func (id ID) Short() string { return id.String()[:12] }

// IsZero reports whether there is no id.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText makes an id a JSON string.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is the reverse of MarshalText.
func (id *ID) UnmarshalText(text []byte) error {
	parsed, err := ParseID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

// A Kind is the type of an object, numbered as in a pack.
type Kind uint8

// The kinds.
const (
	Commit Kind = 1
	Tree   Kind = 2
	Blob   Kind = 3
	Tag    Kind = 4
)

func (k Kind) String() string {
	switch k {
	case Commit:
		return "commit"
	case Tree:
		return "tree"
	case Blob:
		return "blob"
	case Tag:
		return "tag"
	default:
		return "object of type " + strconv.Itoa(int(k))
	}
}

// Valid reports whether the kind is one of the four.
func (k Kind) Valid() bool { return k >= Commit && k <= Tag }

// ErrCollision is the error for bytes that were made to collide in SHA-1.
var ErrCollision = errors.New("object was made to collide in SHA-1")

// A Hasher computes the id of an object whose bytes are written to it.
type Hasher struct{ h hash.Hash }

// NewHasher returns a Hasher for an object of the kind and size.
func NewHasher(kind Kind, size int64) *Hasher {
	h := sha1cd.New()
	// A hash never fails to be written to.
	_, _ = h.Write([]byte(kind.String() + " " + strconv.FormatInt(size, 10) + "\x00"))
	return &Hasher{h: h}
}

// Write takes a part of the object.
func (h *Hasher) Write(p []byte) (int, error) { return h.h.Write(p) }

// ID returns the id, or ErrCollision.
func (h *Hasher) ID() (ID, error) {
	var id ID
	sum := h.h
	if safe, ok := sum.(sha1cd.CollisionResistantHash); ok {
		b, collision := safe.CollisionResistantSum(nil)
		if collision {
			return ID{}, ErrCollision
		}
		copy(id[:], b)
		return id, nil
	}
	return ID{}, errors.New("hash does not detect collisions")
}

// Hash returns the id of an object.
func Hash(kind Kind, data []byte) (ID, error) {
	h := NewHasher(kind, int64(len(data)))
	_, _ = h.Write(data)
	return h.ID()
}
