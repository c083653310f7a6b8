package report

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/report/spool"
)

const (
	// batchBytes bounds a batch together with batchSize.
	batchBytes = 1 << 20
	// spoolWait is how long another process may have the spool.
	spoolWait = time.Minute
)

// deliverSpooled brings what is new from the log into the sink's spool, and
// sends what is there. Where the spool takes nothing, such as on a full disk,
// events wait in the log; and while nothing is in it, they go from there.
func (d *Drain) deliverSpooled(ctx context.Context, l *lane) error {
	q, err := openSpool(ctx, l)
	if err != nil {
		if noRoom(err) && !holds(l.Spool) {
			return d.deliverDirect(ctx, l)
		}
		return err
	}
	unfilled, err := d.empty(ctx, l, q)
	if err == nil && unfilled != nil && q.Empty() && noRoom(unfilled) {
		err, unfilled = d.deliverDirect(ctx, l), nil
	}
	err = errors.Join(err, unfilled)
	if err != nil && ctx.Err() == nil {
		err = errors.Join(err, q.Fail(err.Error()))
	}
	return errors.Join(err, q.Close())
}

func openSpool(ctx context.Context, l *lane) (*spool.Spool, error) {
	ctx, cancel := context.WithTimeout(ctx, spoolWait)
	defer cancel()
	return spool.Open(ctx, l.Spool, l.Limits)
}

func noRoom(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EROFS)
}

// holds reports whether there are segments in a spool that cannot be opened.
func holds(dir string) bool {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	for _, e := range entries {
		if info, ierr := e.Info(); strings.Contains(e.Name(), ".") && (ierr != nil || info.Size() > 0) {
			return true
		}
	}
	return err != nil
}

// collect brings what is new into the spool while the sink is left alone. What
// it cannot, waits in the log for the next delivery, which tells of it.
func (d *Drain) collect(ctx context.Context, l *lane) {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return
	}
	defer func() { <-l.turn }()
	q, err := openSpool(ctx, l)
	if err != nil {
		return
	}
	_ = d.fill(l, q)
	_ = q.Close()
}

// fill brings what is new from the log into the spool. The log moves on once it
// is there for good; what a crash in between left in both is known again by the
// record that was written last.
func (d *Drain) fill(l *lane, q *spool.Spool) error {
	name := l.Sink.Name()
	at := d.log.Cursor(name)
	if seq, checksum := q.Last(); seq > at {
		last, err := d.log.EventsAfter(seq-1, 1)
		if err != nil {
			return err
		}
		if len(last) > 0 && last[0].Seq == seq && spool.Checksum(last[0].Event) == checksum {
			at = seq
			if err := d.log.SetCursor(name, at); err != nil {
				return err
			}
		}
	}
	for {
		events, err := d.log.EventsAfter(at, batchSize)
		if err != nil || len(events) == 0 {
			return err
		}
		if gap := events[0].Seq - at - 1; at > 0 && gap > 0 {
			// The log keeps events within a bound of its own.
			if err := q.Missed(gap); err != nil {
				return err
			}
		}
		matching, _ := l.Filter.pick(events)
		records := make([]spool.Record, len(matching))
		for i, e := range matching {
			records[i] = spool.Record{Seq: e.Seq, Data: e.Event}
		}
		if _, err := q.Append(records); err != nil {
			return err
		}
		at = events[len(events)-1].Seq
		if err := d.log.SetCursor(name, at); err != nil {
			return err
		}
	}
}

// empty sends what the spool holds, and what comes meanwhile. Unfilled is why
// the log's events did not get into the spool; that keeps nothing that is there
// from leaving.
func (d *Drain) empty(ctx context.Context, l *lane, q *spool.Spool) (unfilled, err error) {
	for {
		unfilled = d.fill(l, q)
		if err := d.confess(ctx, l, q); err != nil {
			return unfilled, err
		}
		records, err := q.Next(l.most, batchBytes)
		if err != nil {
			return unfilled, err
		}
		if len(records) == 0 {
			return unfilled, d.confess(ctx, l, q)
		}
		events := make([]Stored, len(records))
		for i, r := range records {
			events[i] = Stored{Seq: r.Seq, Event: r.Data}
		}
		n, err := send(ctx, l.Sink, events)
		if n == 0 && isRefused(err) {
			err = d.drop(ctx, l, q, records[0].Time, err)
		} else {
			err = l.acknowledge(q, n, err)
		}
		if err != nil {
			return unfilled, err
		}
	}
}

// acknowledge notes what became of a batch. What is only a note about it is no
// error any more.
func (l *lane) acknowledge(q *spool.Spool, n int, err error) error {
	var partial *PartialError
	if errors.As(err, &partial) {
		err = q.Missed(partial.Lost)
	}
	if isRefused(err) {
		err = nil // the next batch begins with it
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		// What is too slow for many may have time for a few.
		l.most = max(1, l.most/2)
	case err == nil:
		l.most = min(batchSize, l.most+1+l.most/8)
	}
	if n > 0 {
		l.moved.Store(true)
	}
	return errors.Join(err, q.Ack(n))
}

// isRefused reports whether the receiver will not take what is sent, whatever it is
// asked again.
func isRefused(err error) bool {
	var refused *RefusedError
	return errors.As(err, &refused)
}

// drop gives up the first event that waits, which the receiver refuses, once it has
// taken the event that tells of that. One that refuses that as well has not judged the
// event: a certificate has run out, or something in between speaks in its place. The
// time is the event's, so that it is the same loss when it is told again.
func (d *Drain) drop(ctx context.Context, l *lane, q *spool.Spool, at time.Time, why error) error {
	if d.hooks.Lost == nil {
		return why
	}
	loss := q.Loss()
	loss.Records++
	if loss.Since.IsZero() {
		loss.Since = at
	}
	if at.After(loss.Last) {
		loss.Last = at
	}
	if err := d.tellLoss(ctx, l, loss); isRefused(err) {
		return why
	} else if err != nil {
		return err
	}
	l.moved.Store(true)
	return errors.Join(q.Refuse(), q.Told(loss))
}

// confess tells the sink of events that it will never get.
func (d *Drain) confess(ctx context.Context, l *lane, q *spool.Spool) error {
	loss := q.Loss()
	if loss.Records == 0 || d.hooks.Lost == nil {
		return nil
	}
	err := d.tellLoss(ctx, l, loss)
	switch {
	case isRefused(err):
		return nil // it waits for what the receiver takes
	case err != nil:
		return err
	}
	return q.Told(loss)
}

func (d *Drain) tellLoss(ctx context.Context, l *lane, loss spool.Loss) error {
	event, err := d.hooks.Lost(l.Sink.Name(), loss)
	if err != nil {
		return fmt.Errorf("cannot tell sink %q of %d lost events: %w", l.Sink.Name(), loss.Records, err)
	}
	if n, err := send(ctx, l.Sink, []Stored{{Event: event}}); n == 0 {
		return err
	}
	if d.hooks.Told != nil {
		d.hooks.Told(l.Sink.Name(), loss)
	}
	return nil
}
