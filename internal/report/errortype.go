package report

import (
	"context"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/host"
)

// errorType is the class of an error, one word that stays the same between
// releases, for those who count errors rather than read them.
func errorType(err error) string {
	var command *host.CommandError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.As(err, &command):
		return "command"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return "no_space"
	case errors.Is(err, unix.EROFS):
		return "read_only"
	case errors.Is(err, fs.ErrPermission):
		return "permission"
	case errors.Is(err, fs.ErrNotExist):
		return "not_found"
	default:
		return "other"
	}
}
