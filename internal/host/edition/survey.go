package edition

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// shownPaths is how many paths of a difference are named.
const shownPaths = 100

// A survey is one Check.
type survey struct {
	r       *Edition
	view    resource.View
	found   resource.Finding
	prior   host.PathPrior
	witness resource.Witness
	unseen  bool
	cut     int
}

func (s *survey) add(at string, diff resource.Diff) {
	for _, c := range diff {
		if at != s.r.Path {
			c.Field += ":" + at
		}
		if s.r.Sensitive {
			c = resource.Change{Field: c.Field, Redacted: true}
		}
		s.found.Diff = append(s.found.Diff, c)
	}
}

func (s *survey) see(at string, found host.PathFinding) {
	if s.unseen {
		return
	}
	below := strings.TrimPrefix(at[len(s.r.Path):], "/")
	w := binary.AppendUvarint(s.witness, uint64(len(below)))
	w = found.AppendWitness(append(w, below...), s.r.Owner, s.r.Group)
	s.witness, s.unseen = w, w == nil
}

func (s *survey) top() error {
	found, err := s.r.Host.CompareDirectory(s.r.Path, s.r.ownership(s.r.Mode.Or(0o755)), s.r.Force, s.r.Parents)
	if err != nil {
		return err
	}
	s.found.Creates, s.prior = found.Creates, found.Prior
	if found.NoParent != "" {
		s.found.Note = "directory " + found.NoParent + " is not there yet"
	}
	s.see(s.r.Path, found)
	s.add(s.r.Path, found.Diff)
	return nil
}

// below compares what was put there, and with purge looks for what was not.
func (s *survey) below(ctx context.Context, made []host.TreeEntry) error {
	own := make(map[string]bool, len(made))
	replaced := map[string]bool{}
	for _, e := range made {
		at := path.Join(s.r.Path, e.Path)
		own[at] = true
		if _, held := s.view.Owner(resource.Path(at)); held {
			continue // by another resource
		}
		if replaced[path.Dir(at)] {
			replaced[at] = true
			continue
		}
		found, err := s.entry(ctx, at, e)
		if err != nil {
			return err
		}
		if found.Diff.Has(host.FieldState) && e.Type == host.TypeDirectory {
			replaced[at] = true
		}
		s.see(at, found)
		s.tell(at, found.Diff)
	}
	if s.r.Purge {
		return s.purge(ctx, own)
	}
	return nil
}

// tell is add that names so many paths and no more.
func (s *survey) tell(at string, diff resource.Diff) {
	if len(diff) > 0 && len(s.found.Diff) >= shownPaths {
		if s.cut++; s.cut == 1 {
			s.found.Note = "there is more that differs than is listed"
		}
		if !content(diff) {
			return // the next run mends it
		}
		if content(s.found.Diff) {
			return // all of it is replaced
		}
	}
	s.add(at, diff)
}

// content reports whether a difference takes the content to put right.
func content(diff resource.Diff) bool {
	for _, c := range diff {
		switch field, _, _ := strings.Cut(c.Field, ":"); field {
		case host.FieldMode, host.FieldOwner, host.FieldGroup:
		default:
			return true
		}
	}
	return false
}

func (s *survey) entry(ctx context.Context, at string, e host.TreeEntry) (host.PathFinding, error) {
	h := s.r.Host
	switch e.Type {
	case host.TypeDirectory:
		return h.CompareDirectory(at, s.r.ownership(e.Mode), true, false)
	case host.TypeLink:
		return h.CompareLink(at, e.Target, s.r.ownership(resource.Mode{}), true, false)
	}
	found, err := h.CompareFile(ctx, at, host.FileSpec{
		Content: resource.Lazy(-1, e.SHA256, false, nil),
		Receive: func(context.Context, *os.File) error { return errors.New("it is part of a tree") },
		Mode:    e.Mode, Owner: s.r.Owner, Group: s.r.Group, Force: true, Sensitive: s.r.Sensitive,
	})
	for i, c := range found.Diff {
		if c.Field == host.FieldContent && !c.Redacted {
			found.Diff[i].New = fmt.Sprintf("sha256 %.16s", e.SHA256)
		}
	}
	return found, err
}

func (s *survey) purge(ctx context.Context, own map[string]bool) error {
	var also []string
	kept := map[string]bool{}
	err := s.r.Host.Walk(s.r.Path, func(at string, _ host.Info) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, held := s.view.Owner(resource.Path(at)); held {
			for dir := at; len(dir) > len(s.r.Path); dir = path.Dir(dir) {
				kept[dir] = true
			}
		} else if !own[at] && !strings.HasPrefix(path.Base(at), host.TemporaryPrefix) {
			also = append(also, at)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, at := range also {
		if !kept[at] {
			s.tell(at, resource.Diff{{Field: host.FieldState, Old: "not of the tree", New: host.Absent}})
		}
	}
	return nil
}

// Holds reports whether what a Check saw of a directory is still so.
func Holds(ctx context.Context, h *host.Host, name string, w resource.Witness) bool {
	if len(w) == 0 {
		return false
	}
	for len(w) > 0 {
		n, used := binary.Uvarint(w)
		if used <= 0 || n > uint64(len(w)-used) || ctx.Err() != nil {
			return false
		}
		end := used + int(n)
		rest, holds := h.HoldsAt(path.Join(name, string(w[used:end])), w[end:])
		if !holds {
			return false
		}
		w = rest
	}
	return true
}
