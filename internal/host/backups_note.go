package host

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"trued.dev/trued/internal/resource"
)

// Replaced is what a copy is of.
type Replaced struct {
	// Path is the file that is replaced or removed; empty for what is no file, of
	// which there is no note.
	Path     string
	Mode     resource.Mode
	UID, GID int
	// Secret has the copy sealed.
	Secret bool
	// Xattrs are its extended attributes.
	Xattrs Xattrs
}

// replaced is what is told of a file's copy. One that not everybody may read is
// taken for a secret, whatever the manifest says of what comes in its place.
func (i Info) replaced(f *os.File, name string, sensitive bool) (Replaced, error) {
	secret := sensitive || i.Mode().Bits()&0o004 == 0
	attrs, err := xattrsOf(int(f.Fd()), secret)
	return Replaced{Path: name, Mode: i.Mode(), UID: i.UID(), GID: i.GID(), Secret: secret, Xattrs: attrs}, err
}

// A Credit is for whom a file is changed.
type Credit struct {
	Resource resource.Address `json:"resource,omitzero"`
	Revision string           `json:"revision,omitempty"`
	Run      string           `json:"run,omitempty"`
}

// A Backup is the note of one copy.
type Backup struct {
	ID   string        `json:"id"`
	Time time.Time     `json:"time"`
	Path string        `json:"path"`
	Size int64         `json:"size"`
	Mode resource.Mode `json:"mode,omitzero"`
	UID  int           `json:"uid"`
	GID  int           `json:"gid"`
	// Secret is true for a copy that is sealed.
	Secret bool `json:"secret,omitempty"`
	// Xattrs are its access control list, its capabilities and what users have set;
	// nil where that was not noted.
	Xattrs Xattrs `json:"xattrs,omitzero"`
	// Name is what the copy is called in the store: its SHA-256, unless it is
	// sealed.
	Name string `json:"name"`
	Credit
}

// ForWhom has notes say for whom files are changed from now on.
func (b *Backups) ForWhom(credit func(path string) Credit) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.credit = credit
}

func (b *Backups) index() string { return filepath.Join(b.dir, "index") }

// note appends what was copied to the index.
func (b *Backups) note(what Replaced, name string, size int64) error {
	n := Backup{
		Time: time.Now().UTC(), Path: what.Path, Size: size, Mode: what.Mode, UID: what.UID, GID: what.GID,
		Secret: what.Secret, Xattrs: what.Xattrs, Name: name,
	}
	if b.credit != nil {
		n.Credit = b.credit(what.Path)
	}
	n.ID = n.id()
	line, err := json.Marshal(n)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(b.index(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	// What was cut off in the middle of a line must not take this one with it.
	last := []byte{'\n'}
	if end > 0 {
		if _, err := f.ReadAt(last, end-1); err != nil {
			return err
		}
	}
	if last[0] != '\n' {
		line = append([]byte{'\n'}, line...)
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if end == 0 {
		return syncDir(b.dir)
	}
	return nil
}

// id is short enough to type, and the same for the same note.
func (n Backup) id() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s %s", n.Time.UnixNano(), n.Path, n.Name))
	return hex.EncodeToString(sum[:4])
}

// List returns the notes of all copies that there are, the oldest first.
func (b *Backups) List() ([]Backup, error) {
	data, err := os.ReadFile(b.index())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list backups: %w", err)
	}
	var list []Backup
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var n Backup
		// A line that was cut off is of a copy that nobody was told of.
		if json.Unmarshal(lines.Bytes(), &n) == nil && n.Path != "" {
			list = append(list, n)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("cannot list backups: %w", err)
	}
	return list, nil
}

// Content opens the copy that a note is of.
func (b *Backups) Content(n Backup) (io.ReadCloser, error) {
	r, err := b.open(b.path(n.Name), n.Secret)
	if err != nil {
		return nil, fmt.Errorf("cannot read backup %s of %q: %w", n.ID, n.Path, err)
	}
	return r, nil
}

// DigestOf reads to the end and returns the size and the SHA-256 in hexadecimal.
func DigestOf(ctx context.Context, r io.Reader) (int64, string, error) {
	hash := sha256.New()
	n, err := io.Copy(hash, &cancelled{ctx: ctx, from: r})
	return n, hex.EncodeToString(hash.Sum(nil)), err
}
