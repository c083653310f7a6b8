package culprit

import (
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// The package managers write down what this process has them do as they do for
// anybody else. What came into their logs meanwhile is of our own doing: they let
// one at a time at the packages.

// A span is a part of a log, which may have been put aside since.
type span struct {
	of       inode
	from, to int64
}

type inode struct{ device, number uint64 }

// mostSpans bounds what is remembered. What is further back is beyond what is read of
// a log, or nearly.
const mostSpans = 256

// size returns which file a log is now, and how large.
func (f *Finder) size(log string) (of inode, size int64) {
	var st unix.Stat_t
	if unix.Stat(filepath.Join(f.host.Root(), log), &st) != nil {
		return of, 0
	}
	return inode{uint64(st.Dev), st.Ino}, st.Size //nolint:unconvert // its width differs between architectures
}

// ends returns where each log ends now.
func (f *Finder) ends() []span {
	var all []span
	for _, l := range packageLogs() {
		of, size := f.size(l.file)
		all = append(all, span{of: of, from: size})
	}
	return all
}

// Ours has what the logs of the package managers say from now on, until done is
// called, be told of nobody.
func (f *Finder) Ours() (done func()) {
	began := f.ends()
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for i, end := range f.ends() {
			s := span{of: end.of, to: end.from}
			if began[i].of == end.of {
				s.from = began[i].from
			}
			if s.from < s.to {
				f.ours = append(f.ours, s)
			}
		}
		f.ours = f.ours[max(0, len(f.ours)-mostSpans):]
	}
}

// mostSettled bounds of how many packages is remembered up to where they were told of.
const mostSettled = 256

// settlePackage forgets what the logs say of a package up to now.
func (f *Finder) settlePackage(name string) {
	if f.told == nil || len(f.told) >= mostSettled {
		f.told = map[string][]span{}
	}
	f.told[packageName(name)] = f.ends()
}

// foreign returns the end of a log, less what is of our own doing and what was told of
// a package before.
func (f *Finder) foreign(log int, name string) ([]byte, error) {
	file := packageLogs()[log].file
	of, size := f.size(file)
	text, err := f.host.ReadEnd(file, logTail)
	f.mu.Lock()
	defer f.mu.Unlock()
	begins, told := max(0, size-logTail), int64(0)
	if known := f.told[name]; known != nil && known[log].of == of {
		told = known[log].from
	}
	for _, s := range slices.Backward(f.ours) {
		if from, to := max(s.from-begins, 0), min(s.to-begins, int64(len(text))); s.of == of && s.from >= told && from < to {
			text = append(text[:from], text[to:]...)
		}
	}
	return text[min(max(told-begins, 0), int64(len(text))):], err
}
