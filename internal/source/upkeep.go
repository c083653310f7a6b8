package source

import (
	"context"
	"time"

	"trued.dev/trued/internal/source/object"
)

// verifyEvery is how often all of the store is hashed. What is read is hashed
// each time.
const verifyEvery = 24 * time.Hour

// verifySometimes finds damage in what is seldom read.
func (c *cache) verifySometimes(ctx context.Context) {
	s, broken := c.current()
	now := c.o.Now()
	c.mu.Lock()
	due := now.Sub(c.memory.Verified) >= verifyEvery || c.memory.Verified.After(now)
	c.mu.Unlock()
	if s == nil || broken != nil || !due {
		return
	}
	if err := s.Verify(ctx, c.live(s)...); err != nil {
		_ = c.damage(err)
		return
	}
	if ctx.Err() == nil {
		c.remember(func(m *memory) { m.Verified = now })
	}
}

// compactSometimes keeps the store small. What it cannot do now it does after
// the next update.
func (c *cache) compactSometimes(ctx context.Context) {
	if s, broken := c.current(); s != nil && broken == nil {
		if err := s.Compact(ctx, c.live(s)...); err != nil {
			_ = c.damage(err)
		}
	}
}

// live are the commits whose trees may be asked for.
func (c *cache) live(s *object.Store) []object.ID {
	c.mu.Lock()
	applied := c.applied
	c.mu.Unlock()
	tip := c.tip()
	commits := []object.ID{tip}
	if !applied.IsZero() && applied != tip && s.Has(applied) {
		commits = append(commits, applied)
	}
	return commits
}
