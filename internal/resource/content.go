package resource

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
)

// Content is bytes that a file should have: held in memory, or read from the
// source each time it is opened. It is compared by digest, so what is in order
// need never be read again.
type Content struct {
	// Size is in bytes.
	Size int64
	// SHA256 is the digest in hexadecimal.
	SHA256 string
	// Executable is true when the file in the source is.
	Executable bool

	open func() (io.ReadCloser, error)
}

// Bytes returns content held in memory.
func Bytes(b []byte) *Content {
	sum := sha256.Sum256(b)
	return &Content{
		Size:   int64(len(b)),
		SHA256: hex.EncodeToString(sum[:]),
		open:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil },
	}
}

// Lazy returns content of a known size and digest that open reads.
func Lazy(size int64, sha256 string, executable bool, open func() (io.ReadCloser, error)) *Content {
	return &Content{Size: size, SHA256: sha256, Executable: executable, open: open}
}

// Open returns a reader from the start. The caller closes it.
func (c *Content) Open() (io.ReadCloser, error) { return c.open() }

// MarshalJSON stands for the content by its digest, which is what the digest of
// a desired state is made from.
func (c *Content) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		SHA256     string `json:"sha256"`
		Executable bool   `json:"executable,omitempty"`
	}{c.SHA256, c.Executable})
}

// A TreeEntry is one directory, file or link of a tree in the source.
type TreeEntry struct {
	// Path is relative to the tree, with slashes.
	Path string `json:"path"`
	// Type is fs.ModeDir, fs.ModeSymlink, or zero for a file.
	Type fs.FileMode `json:"type,omitempty"`
	// Content is a file's content.
	Content *Content `json:"content,omitempty"`
	// Target is what a link points to, as it is written.
	Target string `json:"target,omitempty"`
}
