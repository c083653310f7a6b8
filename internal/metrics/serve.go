package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/net/netutil"
)

const (
	// mostScrapes is how many may ask at once; others wait.
	mostScrapes = 16
	// scrapeTime is how long one may take.
	scrapeTime = 10 * time.Second
	// listenPause is the pause before another try to listen.
	listenPause = 10 * time.Second
	// socketMode lets everybody ask, as a port does; the directory says who can.
	socketMode = 0o666
)

// Serve answers scrapes at the address until ctx is done. An address that cannot
// be had is told to the log once, and tried again: nobody's convergence waits for
// metrics.
func (e *Exporter) Serve(ctx context.Context, at Address, log *slog.Logger) {
	said := false
	for {
		l, err := listen(ctx, at)
		if err == nil {
			said = false
			err = e.serve(ctx, l)
		}
		if ctx.Err() != nil {
			return
		}
		if !said {
			log.Warn("metrics cannot be scraped", "listen", string(at), "error", err)
			said = true
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(listenPause):
		}
	}
}

// listen opens the address. A socket that a dead process left is replaced.
func listen(ctx context.Context, at Address) (net.Listener, error) {
	path := string(at)
	if at.network() == "unix" {
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, fmt.Errorf("cannot listen at %q: %w", path, err)
		case info.Mode().Type() != fs.ModeSocket:
			return nil, fmt.Errorf("cannot listen at %q: there is something that is not a socket", path)
		default:
			if c, err := net.Dial("unix", path); err == nil {
				_ = c.Close()
				return nil, fmt.Errorf("cannot listen at %q: another process does", path)
			}
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("cannot listen at %q: %w", path, err)
			}
		}
	}
	l, err := new(net.ListenConfig).Listen(ctx, at.network(), path)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for scrapes: %w", err)
	}
	if at.network() == "unix" {
		if err := os.Chmod(path, socketMode); err != nil {
			return nil, errors.Join(fmt.Errorf("cannot listen at %q: %w", path, err), l.Close())
		}
	}
	return l, nil
}

func (e *Exporter) serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: e, ReadHeaderTimeout: scrapeTime, ReadTimeout: scrapeTime, WriteTimeout: scrapeTime,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	return server.Serve(netutil.LimitListener(l, mostScrapes))
}

// ServeHTTP answers one scrape.
func (e *Exporter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	case r.URL.Path != "/metrics":
		http.Error(w, "there is only /metrics", http.StatusNotFound)
		return
	}
	var b bytes.Buffer
	if err := e.Write(&b); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", string(textFormat()))
	_, _ = w.Write(b.Bytes()) // whoever asked may be gone
	if e.Rest != nil {
		e.Rest()
	}
}
