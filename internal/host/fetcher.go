package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/resource"
)

// A Fetcher brings to the machine what is elsewhere. What speaks to servers is
// higher up than this package, and is handed to it.
type Fetcher interface {
	// File writes what a URL holds, as it comes and unproven. An error may come
	// after some of it was written; it holds no secret of the URL or the access.
	File(ctx context.Context, r RemoteFile, to io.Writer) error
	// Tree fetches a commit of a Git repository and calls use with its files,
	// proven, which are there until use returns. They implement fs.ReadLinkFS.
	Tree(ctx context.Context, r RemoteTree, use func(fs.FS) error) error
}

// A RemoteTree is a commit of a Git repository.
type RemoteTree struct {
	// URL is https, http, ssh, or user@host:path.
	URL    string
	Commit string
	// Tag is a tag that must lead to the commit, if any.
	Tag string
	// Signed, unless nil, has to agree to the tag as Git stores it, before anything is
	// used of what it names.
	Signed func(tag []byte) error
	Access Access
	// Limit is the most bytes that are taken, and that the files may have.
	Limit int64
	// Idle is the longest silence of the server.
	Idle time.Duration
}

// A TagMovedError is a tag that does not lead to the commit that it should.
type TagMovedError struct {
	Tag, Commit, Is string
}

func (e *TagMovedError) Error() string {
	return fmt.Sprintf("tag %q leads to commit %s and not to %s: if it was moved with good reason, say so in Git", e.Tag, e.Is, e.Commit)
}

// A RemoteFile is a file of a server.
type RemoteFile struct {
	// URL is http or https.
	URL    string
	Access Access
	// Limit is the most bytes that are taken.
	Limit int64
	// Idle is the longest silence of the server.
	Idle time.Duration
}

// Access is what opens a server's doors.
type Access struct {
	// Token is a bearer's, or with Username a password.
	Username, Token string
	// CA holds the certificates of the authorities that are believed, in PEM;
	// nil is those of the machine.
	CA []byte
	// SSHKey is a private key; KnownHosts are the lines of that file, nil for
	// those of the machine.
	SSHKey, KnownHosts []byte
}

// Fetcher returns the way to the network. Where there is none it says so at each
// use.
func (h *Host) Fetcher() Fetcher {
	if h.fetcher == nil {
		return noFetcher{}
	}
	return h.fetcher
}

type noFetcher struct{}

var errNoFetcher = errors.New("there is no way to the network here")

func (noFetcher) File(context.Context, RemoteFile, io.Writer) error { return errNoFetcher }

func (noFetcher) Tree(context.Context, RemoteTree, func(fs.FS) error) error { return errNoFetcher }

// ReadSecret is ReadFile for one that no other user may read.
func (h *Host) ReadSecret(name string, limit int64) ([]byte, error) {
	return h.readFile(name, limit, func(i Info) error {
		if i.Mode().Bits()&0o077 != 0 {
			return fmt.Errorf("cannot use %q: it can be read by others (mode %s): set its mode to 0600", name, i.Mode())
		}
		return nil
	})
}

// ReadGuarded is ReadFile for one that nobody can have written but its owner, who is
// root or whom the program runs as.
func (h *Host) ReadGuarded(name string, limit int64) ([]byte, error) {
	return h.readFile(name, limit, func(i Info) error {
		switch {
		case i.Mode().Bits()&0o022 != 0:
			return fmt.Errorf("cannot use %q: it can be written by others (mode %s): take their right away, chmod go-w", name, i.Mode())
		case i.st.Uid != 0 && int(i.st.Uid) != os.Geteuid():
			return fmt.Errorf("cannot use %q: it belongs to somebody else than root", name)
		}
		return nil
	})
}

// A PrivateError is a file that everyone may open, and that is about to hold a
// secret.
type PrivateError struct {
	Path string
	Mode resource.Mode
}

func (e *PrivateError) Error() string {
	return fmt.Sprintf("%q would have a secret in it, and its mode %s lets everyone at it: declare the file with mode 0600 or 0640", e.Path, e.Mode)
}

// everyone are the bits of a mode by which others than the owner and the group
// get at a file.
const everyone = 0o007

// ReadPrivate is ReadFile for one that is to hold a secret: it may be its group's
// to read, and not everyone's. The error is a *PrivateError.
func (h *Host) ReadPrivate(name string, limit int64) ([]byte, error) {
	return h.readFile(name, limit, func(i Info) error {
		if i.Mode().Bits()&everyone != 0 {
			return &PrivateError{name, i.Mode()}
		}
		return nil
	})
}

// HasBackup reports whether content is in the backup store, or there is no store
// to keep it in.
func (h *Host) HasBackup(sha256 string) bool {
	return h.backups == nil || h.backups.Has(sha256)
}

// Read calls read with a file of the machine that is open for reading. The last
// part of the path is not followed.
func (h *Host) Read(name string, read func(io.Reader) error) error {
	p, err := h.resolve(name, false)
	if err != nil {
		return err
	}
	defer p.close()
	f, _, err := p.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return explain("read", name, read(f))
}

// OutOfSpace reports whether an error is that of a file system, or of a quota,
// that is full.
func OutOfSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}
