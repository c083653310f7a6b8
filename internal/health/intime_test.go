package health

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/host"
)

func TestWhatCannotBeToldToStopIsNotWaitedFor(t *testing.T) {
	gone := make(chan struct{})
	defer close(gone)
	_, err := inTime(t.Context(), time.Millisecond, time.Millisecond, func(context.Context) (string, error) {
		<-gone
		return "", nil
	})
	if err == nil || !strings.Contains(err.Error(), "no answer within 1ms") {
		t.Errorf("seen: %v", err)
	}
	// What can be has the last word.
	_, err = inTime(t.Context(), time.Millisecond, time.Hour, func(ctx context.Context) (string, error) {
		<-ctx.Done()
		return "", errors.New("the last word")
	})
	if err == nil || err.Error() != "the last word" {
		t.Errorf("seen: %v", err)
	}
	// What is seen is there at once.
	same, err := inTime(t.Context(), time.Hour, time.Hour, func(context.Context) (string, error) { return "it", nil })
	if same != "it" || err != nil {
		t.Errorf("seen: %q, %v", same, err)
	}
}

// Each look at what hangs is a thread that nobody can end.
func TestWhatHangsIsLookedAtOnce(t *testing.T) {
	p := New(host.New(t.TempDir(), host.Options{}))
	probe := catalog.Probe{Name: "data", File: "/none"}
	p.looking.Store(probe.Name, time.Now().Add(-time.Minute))
	if _, err := p.look(t.Context(), probe); err == nil || !strings.Contains(err.Error(), "no answer yet") {
		t.Errorf("seen: %v", err)
	}
	p.looking.Delete(probe.Name)
	if _, err := p.look(t.Context(), probe); err == nil || strings.Contains(err.Error(), "no answer yet") {
		t.Errorf("seen: %v", err)
	}
	if _, looks := p.looking.Load(probe.Name); looks {
		t.Error("a look that ended is waited for")
	}
}
