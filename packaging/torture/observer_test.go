package torture_test

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// An observer looks at the managed paths of a host all along, from outside of
// it, and keeps what was neither as it was nor as it will be.
type observer struct {
	mu       sync.Mutex
	old, now snapshot
	wrong    []string
	looks    int
	known    map[string]sight

	quit, done chan struct{}
}

// A sight is what a path was when it was looked at, and what its inode told.
type sight struct {
	is    string
	inode uint64
	size  int64
	ctime time.Time
}

// observe starts to look at the host whose root is told, another after each
// boot.
func (o *observer) observe(root func() string) {
	o.quit, o.done, o.known = make(chan struct{}), make(chan struct{}), map[string]sight{}
	go func() {
		defer close(o.done)
		for {
			select {
			case <-o.quit:
				return
			case <-time.After(2 * time.Millisecond): // the host needs the processor, too
				o.look(root())
			}
		}
	}()
}

func (o *observer) stop() {
	close(o.quit)
	<-o.done
}

// expect says between what states the host is from here on.
func (o *observer) expect(old, now snapshot) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.old, o.now = old, now
}

// verdict returns what was wrong since the last verdict, and how often all was
// looked at so far.
func (o *observer) verdict() (wrong []string, looks int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	wrong, o.wrong = o.wrong, nil
	return wrong, o.looks
}

// look takes one look at each path. What it expects stays the same for the
// while of one path.
func (o *observer) look(root string) {
	if !exists(root) {
		return
	}
	o.mu.Lock()
	names := union(o.old, o.now)
	o.mu.Unlock()
	for name := range names {
		o.mu.Lock()
		is := o.glance(root, name)
		if why := judge(name, is, o.old, o.now); why != "" && exists(root) {
			if len(o.wrong) < 20 {
				o.wrong = append(o.wrong, why)
			}
		}
		o.mu.Unlock()
	}
	o.mu.Lock()
	o.looks++
	o.mu.Unlock()
}

// glance is there, less what need not be read again: the inode tells of a change
// unless it is as young as the clock is coarse.
func (o *observer) glance(root, name string) string {
	i, err := os.Lstat(root + name)
	if err != nil {
		return there(root, name)
	}
	st := i.Sys().(*syscall.Stat_t)
	now := sight{inode: st.Ino, size: st.Size, ctime: time.Unix(st.Ctim.Unix())}
	known := o.known[name]
	now.is = known.is
	if now == known && time.Since(now.ctime) > time.Second {
		return known.is
	}
	now.is = there(root, name)
	if delete(o.known, name); now.is != "" && exists(root) {
		o.known[name] = now
	}
	return now.is
}

// exists reports whether the host is up: one that is not has no files.
func exists(root string) bool {
	_, err := os.Stat(root + "/usr/local/sbin/witness")
	return err == nil
}

// there is what is at a path, "" for nothing. What vanished, or turned into
// another kind of thing, while it was looked at is looked at again.
func there(root, name string) string {
	for {
		is, err := describe(root + name)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
			if _, err := os.Lstat(root + name); err == nil {
				continue
			}
			return ""
		case errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.EINVAL):
			continue
		case err != nil:
			return err.Error()
		}
		return is
	}
}

// watched hands the observer's findings to the test.
func (o *observer) watched(t *testing.T, when string) {
	t.Helper()
	wrong, _ := o.verdict()
	for _, why := range wrong {
		t.Errorf("%s: at one moment %s", when, why)
	}
}
