package source

import (
	"context"
	"errors"
	"time"
)

// share gives an attempt its part of the time that is left, when others are
// to come after it.
func share(ctx context.Context, left int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || left <= 1 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
}

// joinErrors keeps the first attempt's reason in front.
func joinErrors(first, next error) error {
	if first == nil {
		return next
	}
	return errors.Join(first, next)
}
