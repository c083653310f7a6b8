package pkg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/host"
)

const (
	searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// Somebody else's hold of a package manager's locks is waited for, this long.
	defaultLockWait = 5 * time.Minute
	// plenty is more than any package manager prints.
	plenty = 256 << 20
)

// A site is the host as a package manager works on it: what managers of all
// kinds have in common.
type site struct {
	h        *host.Host
	run      runner
	lockWait time.Duration

	mu     sync.Mutex
	stamps []fileStamp
	db     *database
}

func newSite(h *host.Host) site {
	return site{h: h, run: runner{h: h}, lockWait: defaultLockWait}
}

// installed returns what read makes of the database's files, read again only
// when they moved.
func (s *site) installed(files []string, read func() (*database, error)) (*database, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stamps := make([]fileStamp, len(files))
	for i, name := range files {
		stamps[i] = stampOf(s.h, name)
	}
	same := s.db != nil && slices.Equal(s.stamps, stamps)
	if same && s.db.witness != nil {
		return s.db, nil
	}
	// What was read right after a change is read once more, when a second change
	// would have left a trace.
	witness := s.h.WitnessFiles(files...)
	if same && witness == nil {
		return s.db, nil
	}
	db, err := read()
	if err != nil {
		return nil, err
	}
	db.witness = witness
	s.stamps, s.db = stamps, db
	return db, nil
}

// A fileStamp changes whenever a file may have changed.
type fileStamp struct {
	size  int64
	mtime time.Time
	inode uint64
}

func stampOf(h *host.Host, name string) fileStamp {
	info, err := os.Stat(h.Path(name))
	if err != nil {
		return fileStamp{}
	}
	return fileStamp{size: info.Size(), mtime: info.ModTime(), inode: inodeOf(info)}
}

// Attach waits for the transaction of an earlier run.
func (s *site) Attach(ctx context.Context) error { return s.run.attach(ctx) }

// End kills that transaction.
func (s *site) End(ctx context.Context) error { return s.run.end(ctx) }

// command returns a command of the machine, or of the tree.
func (s *site) command(args ...string) host.Command {
	if s.h.Offline() {
		args = append([]string{"chroot", s.h.Root()}, args...)
	}
	return host.Command{Args: args, Keep: plenty}
}

// quietly is a command whose output is to be read by us alone.
func (s *site) quietly(args ...string) host.Command {
	c := s.command(args...)
	c.Apart = true
	c.Env = []string{"LC_ALL=C.UTF-8"}
	return c
}

// ready says why a program can change nothing in a tree that is not the running
// system.
func (s *site) ready(program string) string {
	if !s.h.Offline() {
		return ""
	}
	if os.Geteuid() != 0 {
		return "packages are installed into a tree by root alone"
	}
	if _, err := os.Stat(s.h.Path("/usr/bin/" + program)); err != nil {
		return "the tree has no " + program + " to install packages with"
	}
	return ""
}

// newestChange is the newest change of a file that one of the patterns names, or
// of a directory of them, from which one may have gone.
func (s *site) newestChange(patterns []string) time.Time {
	var newest time.Time
	look := func(name string) {
		info, err := os.Stat(name)
		if err != nil {
			return
		}
		if t := changeOf(info); t.After(newest) {
			newest = t
		}
	}
	for _, pattern := range patterns {
		names, _ := filepath.Glob(s.h.Path(pattern))
		for _, name := range names {
			look(name)
		}
		look(filepath.Dir(s.h.Path(pattern)))
	}
	return newest
}

// indexAge is when the index was last fetched, by us as far as we know, else by
// what its files tell; zero when there are none.
func (s *site) indexAge(pattern string, traces ...string) time.Time {
	files, _ := filepath.Glob(s.h.Path(pattern))
	if len(files) == 0 {
		return time.Time{}
	}
	var newest time.Time
	for _, name := range append(traces, runDir+"/refreshed") {
		names, _ := filepath.Glob(s.h.Path(name))
		for _, name := range names {
			if info, err := os.Stat(name); err == nil && info.ModTime().After(newest) {
				newest = info.ModTime()
			}
		}
	}
	return newest
}

func (s *site) markRefreshed() error {
	desk, err := s.run.desk()
	if err != nil {
		return err
	}
	defer desk.Close()
	err = desk.WriteFile("refreshed", nil, 0o600)
	if err == nil {
		now := time.Now()
		err = desk.Chtimes("refreshed", now, now)
	}
	if err != nil {
		return fmt.Errorf("cannot note that the package index was refreshed: %w", err)
	}
	return nil
}

// patiently does something again while it fails for a lock of somebody else.
func (s *site) patiently(ctx context.Context, do func() error) error {
	deadline := time.Now().Add(s.lockWait)
	for {
		err := do()
		var locked *lockedError
		if !errors.As(err, &locked) || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// A lockedError is a lock that somebody else holds.
type lockedError struct{ err error }

func (e *lockedError) Error() string { return e.err.Error() }
func (e *lockedError) Unwrap() error { return e.err }

// ifLocked marks an error whose output says, in one of the given words, that a
// lock is held.
func ifLocked(err error, output string, words ...string) error {
	if err != nil && slices.ContainsFunc(words, func(w string) bool { return strings.Contains(output, w) }) {
		return &lockedError{err}
	}
	return err
}

// locked reports whether another process has a lock on a file of the host.
func (s *site) locked(name string) bool {
	f, err := os.Open(s.h.Path(name))
	if err != nil {
		return false
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	err = unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock)
	return err == nil && lock.Type != unix.F_UNLCK
}

// script runs steps apart from the agent, with no question ever asked, and
// returns the last of what they printed. A step that fails sets $failed.
func (s *site) script(ctx context.Context, head, steps string) (string, error) {
	head = "export " + searchPath + " HOME=/root LANG=C.UTF-8\n" + head + "exec </dev/null\nfailed=0\n"
	return s.run.run(ctx, head+steps+"( exit $failed )")
}

// step is a line of a script that runs a command.
func step(args ...string) string { return quote(args) + " || failed=$?\n" }

func quote(args []string) string {
	quoted := make([]string, len(args))
	for i, arg := range args {
		quoted[i] = arg
		if strings.Trim(arg, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-._:=/") != "" {
			quoted[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

func inodeOf(info os.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}

func changeOf(info os.FileInfo) time.Time {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(st.Ctim.Unix())
	}
	return info.ModTime()
}

// quiet begins a script whose steps must be readable and start no service of a
// tree on this machine.
func (s *site) quiet() string {
	head := "export LC_ALL=C.UTF-8\n"
	if s.h.Offline() {
		head += "export SYSTEMD_OFFLINE=1\n"
	}
	return head
}

// busyUntil asks whether somebody else is at work, and fails after as long as a
// lock is waited for.
func (s *site) busyUntil(m interface{ Busy() bool }) func() (bool, error) {
	deadline := time.Now().Add(s.lockWait)
	return func() (bool, error) {
		if !m.Busy() {
			return false, nil
		}
		if time.Now().After(deadline) {
			return false, errors.New("another package manager has been at work for too long")
		}
		return true, nil
	}
}

// setHolds brings about the marks of a transaction. What was removed is held no
// longer: the mark would keep it from ever being installed again.
func (s *site) setHolds(ctx context.Context, m manager, list holdList, t transaction) error {
	if len(t.Hold)+len(t.Unhold)+len(t.Remove)+len(t.Purge) == 0 {
		return nil
	}
	db, err := m.Installed(ctx)
	if err != nil {
		return err
	}
	unhold := t.Unhold
	for _, name := range slices.Concat(t.Remove, t.Purge) {
		if db.find(name) == nil {
			unhold = append(unhold, name)
		}
	}
	return list.set(ctx, s.h, db, t.Hold, unhold)
}

// errorText is what a failed command printed.
func errorText(err error) string {
	var failed *host.CommandError
	if errors.As(err, &failed) {
		return failed.Output
	}
	return ""
}
