package source

import (
	"context"
	"slices"
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
	commits := c.held(s)
	if tip := c.tip(); !slices.Contains(commits, tip) {
		commits = append([]object.ID{tip}, commits...)
	}
	return commits
}
