package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// A Fetcher brings to the machine what is elsewhere. What speaks to servers is
// higher up than this package, and is handed to it.
type Fetcher interface {
	// File writes what a URL holds, as it comes and unproven. An error may come
	// after some of it was written; it holds no secret of the URL or the access.
	File(ctx context.Context, r RemoteFile, to io.Writer) error
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

// ReadSecret is ReadFile for one that no other user may read.
func (h *Host) ReadSecret(name string, limit int64) ([]byte, error) {
	return h.readFile(name, limit, func(i Info) error {
		if i.Mode().Bits()&0o077 != 0 {
			return fmt.Errorf("cannot use %q: it can be read by others (mode %s): set its mode to 0600", name, i.Mode())
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
