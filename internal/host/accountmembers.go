package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/resource"
)

// accountLock is what lckpwdf(3) locks, and with it every program that changes
// accounts.
const accountLock = "/etc/.pwd.lock"

// lockWaits bounds how often the lock is asked for: five minutes.
const lockWaits = 600

// SetMembers writes who is in a group into the group files. The system's own
// programs take only users that there are already; a group that users are made
// with comes before them.
func (h *Host) SetMembers(ctx context.Context, group string, members []string) error {
	unlock, err := h.lockAccounts(ctx)
	if err != nil {
		return fmt.Errorf("cannot lock the accounts: %w", err)
	}
	defer unlock()
	// The group file is the one that is compared, so it comes last.
	for _, name := range []string{"/etc/gshadow", "/etc/group"} {
		data, err := h.ReadFile(name, accountsLimit)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		now := withMembers(string(data), group, members)
		if now == string(data) {
			continue
		}
		if err := h.WriteFile(ctx, name, FileSpec{
			Content: resource.Bytes([]byte(now)), Follow: true, Sensitive: true,
		}); err != nil {
			return err
		}
	}
	return nil
}

// withMembers replaces the members in the lines of a group: the last of the four
// fields that the group file and its shadow both have.
func withMembers(text, group string, members []string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		bare := strings.TrimRight(line, "\n")
		if f := strings.Split(bare, ":"); len(f) == 4 && f[0] == group {
			f[3] = strings.Join(members, ",")
			line = strings.Join(f, ":") + line[len(bare):]
		}
		b.WriteString(line)
	}
	return b.String()
}

// lockAccounts waits until no other program changes accounts.
func (h *Host) lockAccounts(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(h.Path(accountLock), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if busy := errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES); !busy || try == lockWaits {
			return nil, errors.Join(err, f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(lockPause):
		}
	}
}
