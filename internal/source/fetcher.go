package source

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"sync"

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
		return fmt.Errorf("URL is malformed") //nolint:revive // the parser's error repeats the URL with its password
	}
	if err := f.open(); err != nil {
		return err
	}
	req := remote.Request{
		URL: r.URL, File: true, Agent: "trued",
		Username: r.Access.Username, Token: r.Access.Token, CA: r.Access.CA,
		Limits: remote.Limits{Idle: r.Idle, Bytes: r.Limit + r.Limit/8 + overhead, Object: r.Limit, Memory: fileMemory},
	}
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
