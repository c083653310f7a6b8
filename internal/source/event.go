package source

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"trued.dev/trued/internal/source/object"
)

// tellRepaired says that a damaged store was replaced, and why it had to be.
func (c *cache) tellRepaired(url string, broken error) {
	if broken == nil || errors.Is(broken, errNoStore) {
		return
	}
	c.o.Notify(Event{
		Type: EventRepaired, Source: c.cfg.Name, URL: url, Branch: c.cfg.ref(), Revision: c.tip().String(), Err: broken,
		Message: fmt.Sprintf("store of source %q was mended by fetching anew: %v", c.cfg.Name, broken),
	})
}

// tell turns the outcome into events. A source that cannot be fetched is told
// of once, and once more when the reason is another; when it can be again, so is
// that.
func (c *cache) tell(was memory, before object.ID, rev Revision, err error) {
	if err != nil {
		if why := distrust(err); why != "" && slices.Contains(was.Refusals, why) {
			return // something else failed in between
		}
		if reason(err) != was.Told {
			c.o.Notify(c.failure(before, err))
		}
		return
	}
	e := Event{Source: c.cfg.Name, URL: c.URL(), Branch: c.cfg.ref(), Revision: rev.Commit}
	if was.Told != "" {
		e.Type = EventRecovered
		e.Message = fmt.Sprintf("source %q can be followed again after %s in %s",
			c.cfg.Name, failedFetches(was.Failures), c.o.Now().Sub(was.Since).Round(time.Second))
		c.o.Notify(e)
	}
	if before.String() != rev.Commit {
		e.Type, e.Message = EventUpdated, fmt.Sprintf("source %q is at commit %s: %s", c.cfg.Name, rev.Short(), rev.Subject)
		c.o.Notify(e)
	}
}

func failedFetches(n int) string {
	if n == 1 {
		return "1 fetch that failed"
	}
	return fmt.Sprintf("%d fetches that failed", n)
}

// failure is the event for a fetch that failed.
func (c *cache) failure(before object.ID, err error) Event {
	e := Event{Source: c.cfg.Name, URL: c.URL(), Branch: c.cfg.ref(), Err: err}
	// One of several URLs is a line of the error.
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	var refused *RefusedError
	var untrusted *DistrustError
	switch {
	case errors.As(err, &untrusted):
		e.Type, e.Revision, e.Message = EventRefused, untrusted.Offered, text
		e.Reason, e.Signer = untrusted.Reason, untrusted.Signer
	case errors.As(err, &refused):
		e.Type, e.Revision, e.Applied, e.Message = EventRefused, refused.Offered, refused.Applied, text
		e.Reason = "rewound"
	case !before.IsZero():
		e.Type, e.Revision = EventStale, before.String()
		e.Message = fmt.Sprintf("%s; the host keeps to commit %s", text, before.Short())
	default:
		e.Type, e.Message = EventUnreachable, text
	}
	return e
}

// reason is why a fetch failed, as far as a new event is due when it changes:
// the class of the error, or the commit that was refused.
func reason(err error) string {
	var refused *RefusedError
	var known *Error
	if why := distrust(err); why != "" {
		return why
	}
	switch {
	case errors.As(err, &refused):
		return "refused " + refused.Offered
	case errors.As(err, &known):
		return known.Type()
	default:
		return "other"
	}
}

// distrust names a commit that is not trusted and why; nothing for other errors.
func distrust(err error) string {
	var d *DistrustError
	if !errors.As(err, &d) {
		return ""
	}
	return "distrusted " + d.Offered + " " + d.Reason
}
