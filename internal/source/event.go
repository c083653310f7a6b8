package source

import (
	"errors"
	"fmt"

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

// tell turns the outcome into events.
func (c *cache) tell(before object.ID, rev Revision, err error) {
	e := Event{Source: c.cfg.Name, URL: c.URL(), Branch: c.cfg.ref(), Revision: rev.Commit, Err: err}
	var refused *RefusedError
	switch {
	case errors.As(err, &refused):
		e.Type, e.Revision, e.Applied, e.Message = EventRefused, refused.Offered, refused.Applied, err.Error()
	case err != nil && !before.IsZero():
		e.Type, e.Revision = EventStale, before.String()
		e.Message = fmt.Sprintf("%v; the host keeps to commit %s", err, before.Short())
	case err != nil:
		e.Type, e.Message = EventFailed, err.Error()
	case before.String() != rev.Commit:
		e.Type, e.Message = EventUpdated, fmt.Sprintf("source %q is at commit %s: %s", c.cfg.Name, rev.Short(), rev.Subject)
	default:
		return
	}
	c.o.Notify(e)
}
