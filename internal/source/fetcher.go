package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/source/remote"
)

// A Fetcher brings what single resources name. It is a host.Fetcher, and does its
// work in the same process without rights that sources are fetched by: a server
// that resources name is to be trusted no more than one of a source.
type Fetcher struct {
	dir   string
	child []string
	once  sync.Once
	err   error
}

// NewFetcher returns one that keeps what it needs meanwhile in a directory of its
// own, which is made at the first use. child is that of Options.
func NewFetcher(dir string, child []string) *Fetcher { return &Fetcher{dir: dir, child: child} }

const (
	// The process takes some 20 MB, whatever the size of the file.
	fileMemory = 512 << 20
	// What a connection moves besides the file, at least.
	overhead = 4 << 20
)

// File implements host.Fetcher. The proxy is what the environment of the agent
// says.
func (f *Fetcher) File(ctx context.Context, r host.RemoteFile, to io.Writer) error {
	u, err := url.Parse(r.URL)
	if err != nil {
		return errors.New("URL is malformed") // the parser's error repeats it with its password
	}
	if err := f.open(); err != nil {
		return err
	}
	req := remote.Request{
		URL: r.URL, File: true, Agent: "trued",
		Limits: remote.Limits{Idle: r.Idle, Bytes: r.Limit + r.Limit/8 + overhead, Object: r.Limit, Memory: fileMemory},
	}
	give(&req, r.Access)
	if req.Proxy, err = (Config{}).proxyFor(u); err != nil {
		return err
	}
	child, err := startChild(ctx, f.child, f.dir, &req)
	if err != nil {
		return err
	}
	err = child.File(req, to)
	if gone := child.Close(); err == nil {
		err = gone
	}
	if ctx.Err() != nil {
		return ctx.Err() // the child was killed for it
	}
	return err
}

func give(req *remote.Request, a host.Access) {
	req.Username, req.Token, req.CA = a.Username, a.Token, a.CA
	req.SSHKey, req.KnownHosts = a.SSHKey, a.KnownHosts
}

// longest is a fetch that nothing else ends.
const longest = 24 * time.Hour

// Tree implements host.Fetcher. The store that the commit is fetched into is
// there only meanwhile: what was written out is what is kept.
func (f *Fetcher) Tree(ctx context.Context, r host.RemoteTree, use func(fs.FS) error) (err error) {
	if err := f.open(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(f.dir, "tree.")
	if err != nil {
		return fmt.Errorf("cannot prepare to fetch: %w", err)
	}
	defer func() {
		if rm := os.RemoveAll(dir); err == nil && rm != nil {
			err = fmt.Errorf("cannot remove what was fetched: %w", rm)
		}
	}()
	cfg := Config{
		Name: Redact(r.URL), URL: r.URL, Commit: r.Commit,
		Limits: Limits{Time: longest, Idle: r.Idle, Bytes: r.Limit, Tree: r.Limit},
	}
	if r.Tag != "" {
		cfg.Commit, cfg.Tag = "", r.Tag
	}
	var tag []byte
	s, err := Open(cfg, dir, Options{Child: f.child, access: &r.Access, tagged: func(data []byte) { tag = data }})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	rev, err := s.Fetch(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var known *Error
	if errors.As(err, &known) {
		return fmt.Errorf("cannot fetch from %s: %w", known.URL, known.Err)
	}
	if err != nil {
		return err
	}
	if rev.Commit != r.Commit {
		if r.Tag == "" {
			return fmt.Errorf("%s is no commit but leads to %s", r.Commit, rev.Commit)
		}
		return &host.TagMovedError{Tag: r.Tag, Commit: r.Commit, Is: rev.Commit}
	}
	if r.Signed != nil {
		if tag == nil {
			return fmt.Errorf("tag %q is a name alone, which nobody can have signed: make it by `git tag -s`", r.Tag)
		}
		if err := r.Signed(tag); err != nil {
			return fmt.Errorf("tag %q is not trusted: %w", r.Tag, err)
		}
	}
	files, err := s.Tree(rev.Commit)
	if err != nil {
		return err
	}
	return use(files)
}

// open makes the directory. What is in it was left by an agent that was cut off:
// nothing fetches but a run, and there is one at a time.
func (f *Fetcher) open() error {
	f.once.Do(func() {
		if f.err = os.MkdirAll(f.dir, 0o700); f.err != nil {
			return
		}
		entries, err := os.ReadDir(f.dir)
		f.err = err
		for _, e := range entries {
			if strings.Contains(e.Name(), ".") {
				_ = os.RemoveAll(f.dir + "/" + e.Name())
			}
		}
	})
	if f.err != nil {
		return fmt.Errorf("cannot prepare to fetch: %w", f.err)
	}
	return nil
}
