package watch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// The paths watch directories, never files: the watch of a file dies when the
// file is replaced. A directory that is not there is waited for at the nearest one
// above it that is.
//
// A directory can go by several names, through links and mounts, and has one
// watch all the same: the kernel tells of it by one of them.
type paths struct {
	w      *Watcher
	notify *fsnotify.Watcher
	// add is that of notify.
	add func(name string) error
	// dirs are the watches by the names that the index knows their directories
	// by, or that were found below a tree.
	dirs map[string]*dirWatch
	// files are the watches by what the kernel calls them, nodes by what they are.
	files map[string]*dirWatch
	nodes map[node]*dirWatch
	// missing are directories that are not there, with the one above that is
	// watched in their place; passages are the reverse.
	missing  map[string]string
	passages map[string]map[string]bool
	// refused are those that the kernel would not watch, limit says why.
	refused map[string]bool
	limit   error
	// round are the directories that verify has still to come to.
	round []string
}

type dirWatch struct {
	file string
	node node
	dirs []string
}

// A node tells one directory from another.
type node struct{ dev, ino uint64 }

const (
	// buffered is how many events wait for us in the process, beside those that
	// wait in the kernel.
	buffered = 256
	// verified is how many directories are looked at each time.
	verified = 100
	// longestPath is how often a directory is followed that comes step by step.
	longestPath = 256
)

func newPaths(w *Watcher) *paths {
	p := &paths{
		w: w, dirs: map[string]*dirWatch{}, files: map[string]*dirWatch{}, nodes: map[node]*dirWatch{},
		missing: map[string]string{}, passages: map[string]map[string]bool{}, refused: map[string]bool{},
	}
	if p.notify, p.limit = fsnotify.NewBufferedWatcher(buffered); p.notify == nil {
		p.limit = limitOf(p.limit)
		p.add = func(string) error { return p.limit }
		return p
	}
	p.add = p.notify.Add
	return p
}

func (p *paths) close() {
	if p.notify != nil {
		_ = p.notify.Close()
	}
}

// readPaths takes in what the kernel tells until ctx is done.
func (w *Watcher) readPaths(ctx context.Context) {
	if w.paths.notify == nil {
		return
	}
	missed := make(chan error, 1)
	go w.readErrors(missed)
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-w.paths.notify.Events:
			if !ok {
				return
			}
			w.tree.Lock()
			w.paths.saw(e)
			w.tree.Unlock()
		case err := <-missed:
			w.opt.Log.Warn("events of files were missed", "error", err)
			w.tree.Lock()
			w.paths.missed()
			w.tree.Unlock()
		}
	}
}

// readErrors takes what goes wrong until the watches are closed, and never waits:
// who tells of it may hold what adding a watch waits for.
func (w *Watcher) readErrors(missed chan<- error) {
	for err := range w.paths.notify.Errors {
		if errors.Is(err, syscall.EINVAL) {
			continue // a watch was to be ended that had ended by itself
		}
		select {
		case missed <- err:
		default: // there is one already
		}
	}
}

// missed is what comes of events that were lost: any directory may be another one,
// and all of what is in them.
func (p *paths) missed() {
	p.round = nil
	for again := true; again; again = len(p.round) > 0 {
		p.verify()
	}
	for dir := range p.w.index.trees {
		p.placeTree(dir)
	}
	p.w.Suspect("events of files were missed")
}

// follow watches what the index names, and nothing else.
func (p *paths) follow() {
	x := p.w.index
	for dir := range p.missing {
		p.forget(dir)
	}
	clear(p.refused)
	if p.notify != nil {
		p.limit = nil
	}
	for dir := range p.dirs {
		if x.dirs[dir] == nil && !x.inTree(dir) {
			p.release(dir)
		}
	}
	for dir := range x.dirs {
		if p.dirs[dir] == nil {
			p.place(dir)
		}
	}
	for dir := range x.trees {
		p.placeTree(dir)
	}
}

// place watches a directory, or what stands in for it.
func (p *paths) place(dir string) {
	for range longestPath {
		p.forget(dir)
		at, err := p.watchNearest(dir)
		switch {
		case err != nil:
			p.refuse(dir, err)
			return
		case at == dir:
			return
		}
		p.missing[dir] = at
		if p.passages[at] == nil {
			p.passages[at] = map[string]bool{}
		}
		p.passages[at][dir] = true
		if _, err := nodeOf(p.file(step(at, dir))); err != nil {
			return
		}
		// It has come since, and with it more, perhaps.
	}
	p.forget(dir)
	p.refuse(dir, errElusive)
}

// errElusive is of a directory that is there for one call and not for the next.
var errElusive = errors.New("a directory comes and goes")

// refuse notes that a directory cannot be watched.
func (p *paths) refuse(dir string, err error) {
	p.refused[dir], p.limit = true, limitOf(err)
}

// limitOf says which limit the kernel means, which it has one word for.
func limitOf(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w: as many directories are watched as fs.inotify.max_user_watches allows", err)
	case errors.Is(err, syscall.EMFILE):
		return fmt.Errorf("%w: as much is watched as fs.inotify.max_user_instances allows", err)
	}
	return err
}

// step returns the first directory below one on the way to another.
func step(from, to string) string {
	rest := strings.TrimPrefix(strings.TrimPrefix(to, from), "/")
	first, _, _ := strings.Cut(rest, "/")
	return path.Join(from, first)
}

// watchNearest watches a directory or the first above it that is there, and
// returns which.
func (p *paths) watchNearest(dir string) (at string, err error) {
	for at = dir; ; at = path.Dir(at) {
		err := p.watch(at)
		if at != "/" && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)) {
			continue
		}
		return at, err
	}
}

// watch makes sure that a directory, which must be there, is watched.
func (p *paths) watch(dir string) error {
	file, err := filepath.EvalSymlinks(p.file(dir))
	if err != nil {
		return err
	}
	is, err := nodeOf(file)
	if err != nil {
		return err
	}
	if d := p.dirs[dir]; d != nil {
		if d.node == is {
			return nil
		}
		p.release(dir)
	}
	d := p.nodes[is]
	if d == nil {
		if err := p.add(file); err != nil {
			return err
		}
		d = &dirWatch{file: file, node: is}
		p.nodes[is], p.files[file] = d, d
	}
	d.dirs = append(d.dirs, dir)
	p.dirs[dir] = d
	return nil
}

// release ends the watch of a directory unless it has another name.
func (p *paths) release(dir string) {
	d := p.dirs[dir]
	if d == nil {
		return
	}
	delete(p.dirs, dir)
	d.dirs = slices.DeleteFunc(d.dirs, func(have string) bool { return have == dir })
	if len(d.dirs) > 0 {
		return
	}
	delete(p.nodes, d.node)
	if p.files[d.file] == d {
		delete(p.files, d.file)
		_ = p.notify.Remove(d.file) // it may have ended by itself
	}
}

// forget ends what is known of a directory that was not there, or was refused.
func (p *paths) forget(dir string) {
	delete(p.refused, dir)
	at, ok := p.missing[dir]
	if !ok {
		return
	}
	delete(p.missing, dir)
	delete(p.passages[at], dir)
	if len(p.passages[at]) == 0 {
		delete(p.passages, at)
		if x := p.w.index; x.dirs[at] == nil && !x.inTree(at) {
			p.release(at)
		}
	}
}

// placeAll watches a directory, and in a tree those below it.
func (p *paths) placeAll(dir string) {
	if p.w.index.inTree(dir) {
		p.placeTree(dir)
	} else {
		p.place(dir)
	}
}

// placeTree watches a directory and all those below it. What is made in one
// before it is watched is not missed: who calls has its resources looked at.
func (p *paths) placeTree(dir string) {
	p.place(dir)
	if p.dirs[dir] == nil {
		return
	}
	entries, err := os.ReadDir(p.file(dir))
	if err != nil {
		return // it goes just now, which is told
	}
	for _, e := range entries {
		if e.IsDir() {
			p.placeTree(path.Join(dir, e.Name()))
		}
	}
}

// saw takes in one event.
func (p *paths) saw(e fsnotify.Event) {
	moved := e.Has(fsnotify.Create) || e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename)
	if d := p.files[e.Name]; d != nil && moved {
		// The directory is not what it was; what the kernel tells next is of
		// another one.
		for _, dir := range slices.Clone(d.dirs) {
			p.lost(dir)
		}
	}
	d := p.files[filepath.Dir(e.Name)]
	if d == nil {
		return
	}
	base := filepath.Base(e.Name)
	for _, dir := range slices.Clone(d.dirs) {
		p.sawName(dir, base, moved, e.Has(fsnotify.Create))
	}
}

// sawName takes in that something happened to a name in a directory.
func (p *paths) sawName(dir, base string, moved, came bool) {
	x := p.w.index
	if d := x.dirs[dir]; d != nil {
		if r, ok := (*d)[base]; ok {
			p.w.mark(x.list(r)...)
		}
	}
	p.w.mark(x.treesOver(dir)...)
	if !moved {
		return
	}
	full := path.Join(dir, base)
	var come []string
	for missing := range p.passages[dir] {
		if within(missing, full) {
			come = append(come, missing)
		}
	}
	for _, missing := range come {
		p.lost(missing)
	}
	if x.dirs[full] != nil || x.above[full] || p.dirs[full] != nil {
		p.lost(full)
	}
	if came && x.inTree(dir) {
		if info, err := os.Lstat(p.file(full)); err == nil && info.IsDir() {
			p.placeTree(full)
		}
	}
}

// lost watches a directory and what is known to be below it anew, and has all of
// it looked at.
func (p *paths) lost(dir string) {
	x := p.w.index
	for d := range p.dirs { // which may be taken from while it is walked
		if within(d, dir) {
			p.release(d)
		}
	}
	p.w.mark(x.below(dir)...)
	for _, d := range x.dirsFrom(dir) {
		p.placeAll(d)
	}
	if _, err := nodeOf(p.file(dir)); err == nil && x.dirs[dir] == nil && x.inTree(dir) {
		p.placeTree(dir) // something else is there now, such as a mount
	}
	// What was watched in the place of something else is needed still.
	var waiting []string
	for missing, at := range p.missing {
		if within(at, dir) {
			waiting = append(waiting, missing)
		}
	}
	for _, missing := range waiting {
		p.place(missing)
	}
}

// verify finds out of some directories whether they are still those that are
// watched: nobody tells when one above them is renamed, or something is mounted
// there.
func (p *paths) verify() {
	if len(p.round) == 0 {
		for dir := range p.dirs {
			p.round = append(p.round, dir)
		}
		for dir := range p.missing {
			p.round = append(p.round, dir)
		}
	}
	for range min(verified, len(p.round)) {
		dir := p.round[len(p.round)-1]
		p.round = p.round[:len(p.round)-1]
		is, err := nodeOf(p.file(dir))
		switch d := p.dirs[dir]; {
		case d != nil && (err != nil || d.node != is):
			p.lost(dir)
		case d == nil && p.missing[dir] != "" && err == nil:
			p.lost(dir)
		}
	}
}

// retry tries whether the kernel watches by now what it would not.
func (p *paths) retry() {
	for dir := range p.refused {
		p.placeAll(dir)
		if p.refused[dir] {
			return // as it was
		}
		p.w.mark(p.w.index.below(dir)...)
	}
	if p.notify != nil && len(p.refused) == 0 {
		p.limit = nil
	}
}

// unwatched returns the directories that the kernel would not watch.
func (p *paths) unwatched() []string {
	list := make([]string, 0, len(p.refused))
	for dir := range p.refused {
		list = append(list, dir)
	}
	return list
}

func (p *paths) file(dir string) string { return filepath.Join(p.w.opt.Root, dir) }

func nodeOf(file string) (node, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(file, &st); err != nil {
		return node{}, err
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		return node{}, syscall.ENOTDIR
	}
	return node{uint64(st.Dev), st.Ino}, nil //nolint:unconvert // its width differs between architectures
}

// lockPause is between two looks at whether a keeper is done.
const lockPause = 200 * time.Millisecond
