package host

import (
	"context"
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// A file that is judged in its place is on trial: what was there before has a
// second name for that time, by which a run that was cut off meanwhile is told
// from one that came to a verdict. Whoever sweeps next puts it back.
const (
	trialPrefix = TemporaryPrefix + "back-"
	// nothing is where the second name leads when there was no file.
	nothing = TemporaryPrefix + "nothing"
)

// trialOf returns the name that a second name stands for.
func trialOf(base string) (final string, ok bool) {
	final, ok = strings.CutPrefix(base, trialPrefix)
	return final, ok && final != ""
}

// onTrial reports whether the new file is to be judged in its place.
func (s *StagedFile) onTrial() bool {
	return s.spec.Content != nil && (s.spec.Trial != nil || s.spec.Validate != "" && !strings.Contains(s.spec.Validate, "{path}"))
}

// judge has the new file judged in its place.
func (s *StagedFile) judge(ctx context.Context) error {
	if s.spec.Trial != nil {
		if err := s.spec.Trial(ctx); err != nil {
			return err
		}
	}
	if s.spec.Validate == "" || strings.Contains(s.spec.Validate, "{path}") {
		return nil
	}
	return s.validate(ctx, s.at.base)
}

// commitValidated puts the file in place, and the old one back when the command
// does not accept it.
func (s *StagedFile) commitValidated(ctx context.Context) error {
	aside := trialPrefix + s.at.base
	switch err := s.putAside(aside); {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EMLINK), errors.Is(err, unix.ENAMETOOLONG):
		// A directory, or a file system without second names.
		return s.commitExchanged(ctx)
	case err != nil:
		return explainAt("replace", s.name, s.at, err)
	}
	if err := unix.Renameat(s.at.dir, s.tmpName, s.at.dir, s.at.base); err != nil {
		_ = unix.Unlinkat(s.at.dir, aside, 0)
		return explainAt("replace", s.name, s.at, err)
	}
	s.tmpName = ""
	err := s.judge(ctx)
	if err == nil {
		err = explainAt("replace", s.name, s.at, unix.Unlinkat(s.at.dir, aside, 0))
	}
	if err != nil {
		second := place{dir: s.at.dir, base: aside, real: s.at.real}
		return errors.Join(err, explainAt("put back", s.name, s.at, second.putBack()))
	}
	return nil
}

// putAside gives what is in place a second name.
func (s *StagedFile) putAside(aside string) error {
	if err := unix.Unlinkat(s.at.dir, aside, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	if s.had {
		return unix.Linkat(s.at.dir, s.at.base, s.at.dir, aside, 0)
	}
	return unix.Symlinkat(nothing, s.at.dir, aside)
}

// putBack gives what has a second name its first one again.
func (p place) putBack() error {
	final, _ := trialOf(p.base)
	buf := make([]byte, len(nothing)+1)
	n, err := unix.Readlinkat(p.dir, p.base, buf)
	if err == nil && string(buf[:n]) == nothing {
		err = unix.Unlinkat(p.dir, final, 0)
		if errors.Is(err, unix.ENOENT) {
			err = nil
		}
	} else {
		err = unix.Renameat(p.dir, p.base, p.dir, final)
	}
	if err != nil {
		return err
	}
	// It still has both where the trial had not begun.
	if err := unix.Unlinkat(p.dir, p.base, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return p.sync()
}

// commitExchanged is commitValidated where there are no second names. What
// becomes of the new file is not known when it is cut off.
func (s *StagedFile) commitExchanged(ctx context.Context) error {
	back := func() error { return unix.Unlinkat(s.at.dir, s.at.base, 0) }
	put := func() error { return unix.Renameat(s.at.dir, s.tmpName, s.at.dir, s.at.base) }
	if s.had {
		put = s.exchange
		back = s.exchange
	}
	err := put()
	if s.had && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS)) {
		err = s.replaceAside()
		back = func() error { return unix.Renameat(s.at.dir, s.tmpName, s.at.dir, s.at.base) }
	}
	if err != nil {
		return explainAt("replace", s.name, s.at, err)
	}
	if err := s.judge(ctx); err != nil {
		if !s.had {
			s.tmpName = ""
		}
		if undo := back(); undo != nil {
			s.tmpName = "" // it may be all that is left of the old one
			return errors.Join(err, explainAt("put back", s.name, s.at, undo))
		}
		return err
	}
	if !s.had {
		s.tmpName = ""
		return nil
	}
	// What has the temporary name now is the old one.
	err = removeAll(place{dir: s.at.dir, base: s.tmpName, real: s.at.real}, s.name)
	s.tmpName = ""
	return err
}

func (s *StagedFile) exchange() error {
	return unix.Renameat2(s.at.dir, s.tmpName, s.at.dir, s.at.base, unix.RENAME_EXCHANGE)
}

// replaceAside is exchange for file systems that cannot: the old file gets a
// second name before the new one takes its own.
func (s *StagedFile) replaceAside() error {
	aside := temporaryName(s.at.base)
	if err := unix.Linkat(s.at.dir, s.at.base, s.at.dir, aside, 0); err != nil {
		return err
	}
	if err := unix.Renameat(s.at.dir, s.tmpName, s.at.dir, s.at.base); err != nil {
		_ = unix.Unlinkat(s.at.dir, aside, 0)
		return err
	}
	s.tmpName = aside
	return nil
}
