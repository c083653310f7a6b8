package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// A Suspension stops convergence until it is lifted or over.
type Suspension struct {
	Reason string    `json:"reason"`
	By     string    `json:"by,omitempty"`
	Since  time.Time `json:"since"`
	// Until is zero for "until resumed".
	Until time.Time `json:"until,omitzero"`
}

const suspendFile = "suspended.json"

// Suspended returns the suspension that holds at the given time. It is a file
// of its own, so that an operator can suspend while a run holds the lock.
func (s *Store) Suspended(now time.Time) (*Suspension, error) {
	data, err := os.ReadFile(s.path(suspendFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read suspension: %w", err)
	}
	var sus Suspension
	if err := json.Unmarshal(data, &sus); err != nil {
		return nil, fmt.Errorf("cannot read suspension: %w", err)
	}
	if !sus.Until.IsZero() && !now.Before(sus.Until) {
		return nil, nil
	}
	return &sus, nil
}

// Suspend stops convergence, across reboots.
func (s *Store) Suspend(sus Suspension) error {
	data, err := json.Marshal(sus)
	if err != nil {
		return fmt.Errorf("cannot suspend: %w", err)
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("cannot suspend: %w", err)
	}
	if err := writeAtomic(s.path(suspendFile), append(data, '\n')); err != nil {
		return fmt.Errorf("cannot suspend: %w", err)
	}
	return nil
}

// Resume lifts a suspension; it is no error when there is none.
func (s *Store) Resume() error {
	if err := os.Remove(s.path(suspendFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot resume: %w", err)
	}
	return nil
}
