package report

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/host"
)

func TestErrorsAreClassed(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{context.DeadlineExceeded, "timeout"},
		{context.Canceled, "canceled"},
		{&host.CommandError{Args: []string{"nginx", "-t"}, Err: errors.New("exit status 1")}, "command"},
		{&host.CommandError{Args: []string{"sleep"}, Err: context.DeadlineExceeded}, "timeout"},
		{&fs.PathError{Op: "write", Path: "/etc/x", Err: unix.ENOSPC}, "no_space"},
		{&fs.PathError{Op: "open", Path: "/etc/x", Err: unix.EROFS}, "read_only"},
		{&fs.PathError{Op: "open", Path: "/etc/x", Err: unix.EACCES}, "permission"},
		{&fs.PathError{Op: "open", Path: "/etc/x", Err: unix.ENOENT}, "not_found"},
		{errors.New("still different"), "other"},
	} {
		if got := errorType(fmt.Errorf("cannot apply: %w", c.err)); got != c.want {
			t.Errorf("errorType(%v) = %q, want %q", c.err, got, c.want)
		}
	}
}
