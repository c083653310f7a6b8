package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"trued.dev/trued/internal/source/object"
	"trued.dev/trued/internal/source/remote"
)

// Why a source could not be fetched. Each is found with errors.Is in what
// Fetch returns; none of them takes away what was fetched before.
var (
	ErrUnreachable = errors.New("unreachable")
	ErrDenied      = errors.New("denied")
	ErrHostKey     = errors.New("host key")
	ErrNotFound    = errors.New("not found")
	ErrLimit       = errors.New("over a limit")
	ErrTimeout     = errors.New("timed out")
	ErrMalformed   = errors.New("malformed")
	ErrRefused     = errors.New("refused")
	ErrStore       = errors.New("store")
	// ErrDamaged is also what reading a tree returns when the store no longer
	// holds what was written to it. The next Fetch mends it.
	ErrDamaged = object.ErrDamaged
)

// An Error is why a source could not be fetched.
type Error struct {
	Source string
	// URL has no credentials.
	URL string
	// Reason is one of the variables above.
	Reason error
	Err    error
}

func (e *Error) Error() string {
	return fmt.Sprintf("cannot fetch source %q from %s: %v", e.Source, e.URL, e.Err)
}

// Unwrap makes errors.Is find the reason and the cause.
func (e *Error) Unwrap() []error { return []error{e.Reason, e.Err} }

// Type is the word for the reason in an event's error.type.
func (e *Error) Type() string {
	for word, reason := range map[string]error{
		"unreachable": ErrUnreachable, "denied": ErrDenied, "host_key": ErrHostKey, "not_found": ErrNotFound,
		"limit": ErrLimit, "timeout": ErrTimeout, "malformed": ErrMalformed, "refused": ErrRefused,
		"store": ErrStore, "damaged": ErrDamaged,
	} {
		if errors.Is(e.Reason, reason) {
			return word
		}
	}
	return "other"
}

// A RefusedError says that the server's commit does not descend from the
// applied one. It is wrapped in an Error with the reason ErrRefused.
type RefusedError struct {
	Applied string
	Offered string
	Detail  string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("commit %s does not descend from the applied commit %s (%s): if that is intended, run `trued sync --accept-history=%.12s` on this host",
		e.Offered, e.Applied, e.Detail, e.Offered)
}

// explain turns what went wrong into an Error.
func explain(ctx context.Context, name, url string, limits Limits, err error) error {
	var known *Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	e := &Error{Source: name, URL: Redact(url), Reason: ErrMalformed, Err: err}
	var told *remote.Error
	var refused *RefusedError
	var untrusted *DistrustError
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		e.Reason = ErrTimeout
		e.Err = fmt.Errorf("it was not done after %s (limits.time)", limits.Time)
	case ctx.Err() != nil:
		e.Reason, e.Err = ErrTimeout, ctx.Err()
	case errors.As(err, &refused), errors.As(err, &untrusted):
		e.Reason = ErrRefused
	case errors.As(err, &told):
		e.Reason = reasonOf(told.Kind)
	case errors.Is(err, object.ErrDamaged), errors.Is(err, object.ErrMissing):
		e.Reason = ErrDamaged
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EROFS):
		e.Reason = ErrStore
	case errors.Is(err, os.ErrNotExist):
		e.Reason = ErrNotFound
	case errors.Is(err, errOverLimit):
		e.Reason = ErrLimit
	}
	return e
}

func reasonOf(kind string) error {
	switch kind {
	case remote.KindUnreachable:
		return ErrUnreachable
	case remote.KindDenied:
		return ErrDenied
	case remote.KindHostKey:
		return ErrHostKey
	case remote.KindNotFound, remote.KindUnsupported:
		return ErrNotFound
	case remote.KindTimeout:
		return ErrTimeout
	case remote.KindLimit:
		return ErrLimit
	default:
		return ErrMalformed
	}
}

var errOverLimit = errors.New("over a limit")

func overLimit(key, format string, args ...any) error {
	return fmt.Errorf("%s (limits.%s)%w", fmt.Sprintf(format, args...), key, hidden{errOverLimit})
}

// hidden is an error that is found with errors.Is and adds no text.
type hidden struct{ error }

func (h hidden) Error() string { return "" }
func (h hidden) Unwrap() error { return h.error }
