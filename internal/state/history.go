package state

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Past is a run that is over, with its events.
type Past struct {
	Run    Run               `json:"run"`
	Events []json.RawMessage `json:"events"`
}

const (
	historyDir  = "history"
	historyKept = 500
)

// Keep adds a run to the history, and lets the oldest go beyond 500.
func (s *Store) Keep(p Past) error {
	dir := s.path(historyDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot keep history: %w", err)
	}
	data, err := p.line()
	if err != nil {
		return fmt.Errorf("cannot keep history: %w", err)
	}
	name := p.Run.Started.UTC().Format("20060102T150405.000000") + "-" + p.Run.ID + ".json"
	if err := writeAtomic(filepath.Join(dir, name), data); err != nil {
		return fmt.Errorf("cannot keep history: %w", err)
	}
	names, err := s.historyNames()
	if err != nil {
		return err
	}
	for _, old := range names[:max(0, len(names)-historyKept)] {
		if err := os.Remove(filepath.Join(dir, old)); err != nil {
			return fmt.Errorf("cannot trim history: %w", err)
		}
	}
	return nil
}

// historyNames returns the files of the history, oldest first.
func (s *Store) historyNames() ([]string, error) {
	entries, err := os.ReadDir(s.path(historyDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read history: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".json") && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// History returns up to limit runs, newest first. A run whose file cannot be
// read is left out.
func (s *Store) History(limit int) ([]Past, error) {
	names, err := s.historyNames()
	if err != nil {
		return nil, err
	}
	slices.Reverse(names)
	var past []Past
	for _, name := range names {
		if len(past) == limit {
			break
		}
		p, err := readPast(s.path(filepath.Join(historyDir, name)))
		if err == nil {
			past = append(past, p)
		}
	}
	return past, nil
}

func readPast(name string) (Past, error) {
	var p Past
	f, err := os.Open(name)
	if err != nil {
		return p, err
	}
	defer f.Close()
	return p, json.NewDecoder(bufio.NewReader(f)).Decode(&p)
}
