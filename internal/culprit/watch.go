package culprit

import (
	"fmt"
	"hash/maphash"
	"path"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A watcher has the kernel tell who touches what is in some directories, by
// fanotify.
type watcher struct {
	fan int
	// wake is an event counter that ends the reading.
	wake int
	done chan struct{}
	seed maphash.Seed

	mu sync.Mutex
	// told are the hashes of the paths of interest, in order. One that is taken
	// for another costs a line in touches and nothing else.
	told    []uint64
	dirs    map[string]*directory // by dirKey
	touches *touches
	recent  recent
	// commands is told of each start of one of the programs that it watches, and
	// returns false where it cannot look at it.
	commands func(pid int) bool
	// lost is when something was missed last: who did what before that may not have
	// been the last to.
	lost time.Time
	// spare is how many strangers may be looked at until the second is over.
	spare  int
	second int64
}

// A directory is one that is marked.
type directory struct {
	// names are the paths that it goes by.
	names []string
	// idle counts the writes in it that were of no interest.
	idle int
}

const (
	// What happens to a name in a directory, and to the directories in it.
	mostEvents = unix.FAN_CLOSE_WRITE | unix.FAN_ATTRIB | unix.FAN_CREATE | unix.FAN_DELETE |
		unix.FAN_MOVED_FROM | unix.FAN_MOVED_TO | unix.FAN_ONDIR | unix.FAN_EVENT_ON_CHILD
	// A watched directory costs about a kilobyte of the kernel's memory, and a
	// path eight bytes here.
	mostDirectories = 2048
	mostTold        = 1 << 16
	// mostIdle writes that were of no interest are the mark of a directory with a
	// log in it: from then on only the end of writing is told.
	mostIdle = 256
	// strangers are looked at that often in a second at most: who makes a
	// temporary file may be about to put it in the place of another, and gone by
	// then.
	strangers = 200
)

// openWatcher fails where the kernel lacks what is needed (before 5.9), or the
// right to it is missing.
func openWatcher(commands func(pid int) bool) (*watcher, error) {
	const flags = unix.FAN_CLASS_NOTIF | unix.FAN_REPORT_DFID_NAME | unix.FAN_CLOEXEC | unix.FAN_NONBLOCK
	fan, err := unix.FanotifyInit(flags|unix.FAN_REPORT_PIDFD, unix.O_RDONLY|unix.O_CLOEXEC)
	if err == unix.EINVAL { //nolint:errorlint // a plain number of the kernel's
		fan, err = unix.FanotifyInit(flags, unix.O_RDONLY|unix.O_CLOEXEC)
	}
	if err != nil {
		return nil, fmt.Errorf("fanotify: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(fan)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	w := &watcher{
		fan: fan, wake: wake, done: make(chan struct{}), seed: maphash.MakeSeed(), commands: commands,
		dirs: map[string]*directory{}, touches: newTouches(),
	}
	go w.read()
	return w, nil
}

// close ends the reading and waits for its end.
func (w *watcher) close() {
	_, _ = unix.Write(w.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	<-w.done
	_ = unix.Close(w.wake)
	_ = unix.Close(w.fan)
}

// watch makes what is at the given paths what is of interest, and nothing else.
// A directory that cannot be watched, since its file system has no handles or
// since it is not there, is left out.
func (w *watcher) watch(names []string) {
	told := make([]uint64, 0, min(len(names), mostTold))
	var parents []string
	last := ""
	for _, name := range names {
		if len(told) == mostTold {
			break
		}
		told = append(told, maphash.String(w.seed, name))
		if dir := path.Dir(name); dir != last {
			parents, last = append(parents, dir), dir
		}
	}
	slices.Sort(told)
	slices.Sort(parents)
	parents = slices.Compact(parents)
	dirs := make(map[string]*directory, min(len(parents), mostDirectories))
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, parent := range parents[:min(len(parents), mostDirectories)] {
		w.mark(dirs, parent)
	}
	for key, d := range w.dirs {
		if dirs[key] == nil {
			w.unmark(key, d.names[0])
		}
	}
	w.told, w.dirs = told, dirs
}

// mark asks for the events of a directory. To ask again does no harm, and is
// needed where another took its place.
func (w *watcher) mark(dirs map[string]*directory, name string) {
	key, err := keyOf(name)
	if err != nil {
		return
	}
	if d := dirs[string(key)]; d != nil {
		d.names = append(d.names, name)
		return
	}
	d := &directory{names: []string{name}}
	mask := uint64(mostEvents)
	if old := w.dirs[string(key)]; old != nil && old.idle > mostIdle {
		d.idle = old.idle
	} else {
		mask |= unix.FAN_MODIFY
	}
	if unix.FanotifyMark(w.fan, unix.FAN_MARK_ADD|unix.FAN_MARK_ONLYDIR, mask, unix.AT_FDCWD, name) == nil {
		dirs[string(key)] = d
	}
}

// unmark lets go of a directory, unless its path is that of another by now. A
// mark goes with its directory.
func (w *watcher) unmark(key, name string) {
	if now, err := keyOf(name); err == nil && string(now) == key {
		_ = unix.FanotifyMark(w.fan, unix.FAN_MARK_REMOVE|unix.FAN_MARK_ONLYDIR, mostEvents|unix.FAN_MODIFY, unix.AT_FDCWD, name)
	}
}

// watchCommand has commands told of each start of a program.
func (w *watcher) watchCommand(name string) {
	_ = unix.FanotifyMark(w.fan, unix.FAN_MARK_ADD, unix.FAN_OPEN_EXEC, unix.AT_FDCWD, name)
}

// handleID asks for a handle that identifies and need not be opened, which more
// file systems have (Linux 6.5).
const handleID = 0x200

func keyOf(name string) (dirKey, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(name, &fs); err != nil {
		return nil, err
	}
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW|handleID)
	if err != nil {
		h, _, err = unix.NameToHandleAt(unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
	}
	if err != nil {
		return nil, err
	}
	return newDirKey(fs.Fsid, h), nil
}

// read takes events until the watcher is closed. Most processes that change a
// file are gone within a millisecond, so it has a thread of its own that goes
// before others: it does little, and asks for little where much happens.
func (w *watcher) read() {
	defer close(w.done)
	runtime.LockOSThread() // and never let go: the thread ends with its priority
	const first = -20
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, first)
	buf := make([]byte, 8192) // as many processes have a file descriptor at once as fit
	for {
		fds := []unix.PollFd{{Fd: int32(w.fan), Events: unix.POLLIN}, {Fd: int32(w.wake), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR { //nolint:errorlint // a plain number of the kernel's
			return
		}
		if fds[1].Revents != 0 {
			return
		}
		for {
			n, err := unix.Read(w.fan, buf)
			if err != nil || n <= 0 {
				break
			}
			w.take(buf[:n])
		}
	}
}

// take notes what is in a buffer.
func (w *watcher) take(buf []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if err := parse(buf, func(e event) { w.note(e, now) }); err != nil {
		w.miss(now)
	}
}

// miss lets go of all that was seen, since something was not.
func (w *watcher) miss(now time.Time) {
	w.touches.forget()
	w.lost = now
}

// missed returns when something was missed last.
func (w *watcher) missed() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}

func (w *watcher) note(e event, now time.Time) {
	if e.handle >= 0 {
		defer unix.Close(e.handle)
	}
	switch {
	case e.mask&unix.FAN_Q_OVERFLOW != 0:
		w.miss(now)
		return
	case e.mask&unix.FAN_OPEN_EXEC != 0:
		if w.commands != nil && !w.commands(e.pid) {
			w.lost = now
		}
		return
	}
	d := w.dirs[string(e.dir)]
	if d == nil || len(e.name) == 0 || string(e.name) == "." {
		return
	}
	interesting := false
	for _, dir := range d.names {
		name := path.Join(dir, string(e.name))
		_, told := slices.BinarySearch(w.told, maphash.String(w.seed, name))
		if !told {
			continue
		}
		interesting = true
		if by := w.recent.look(e, now); !by.own {
			w.touches.add(touch{path: name, mask: e.mask, by: by, when: now})
		}
	}
	if !interesting {
		w.pass(d, e, now)
	}
}

// pass deals with what is of no interest by itself.
func (w *watcher) pass(d *directory, e event, now time.Time) {
	if e.mask&unix.FAN_MODIFY != 0 {
		if d.idle++; d.idle == mostIdle+1 {
			_ = unix.FanotifyMark(w.fan, unix.FAN_MARK_REMOVE|unix.FAN_MARK_ONLYDIR, unix.FAN_MODIFY, unix.AT_FDCWD, d.names[0])
		}
	}
	if w.second != now.Unix() {
		w.second, w.spare = now.Unix(), strangers
	}
	if e.mask&(unix.FAN_CREATE|unix.FAN_MOVED_FROM) != 0 && w.spare > 0 {
		w.spare--
		w.recent.look(e, now)
	}
}

// recent are the processes that were looked at last. They are asked when one is
// gone, and spare most looks at one that does much.
type recent struct {
	list [64]seen
	next int
}

type seen struct {
	process
	at time.Time
}

const (
	// fresh is how long a look at a process counts while that lives: it may
	// become another program.
	fresh = 20 * time.Millisecond
	// stale is how long it counts once that is gone: its number may be given to
	// another.
	stale = 2 * time.Second
)

func (r *recent) look(e event, now time.Time) process {
	at := slices.IndexFunc(r.list[:], func(s seen) bool { return s.pid == e.pid && now.Sub(s.at) < stale })
	switch {
	case at >= 0 && (e.handle == goneProcess || now.Sub(r.list[at].at) < fresh):
		return r.list[at].process
	case e.handle == goneProcess:
		return unknown(e.pid)
	}
	p := look(e.pid)
	if at >= 0 && p.exe == "" && (!p.known() || p.comm == r.list[at].comm) {
		return r.list[at].process // it is just ending
	}
	if !p.known() {
		return p
	}
	if at < 0 {
		at, r.next = r.next, (r.next+1)%len(r.list)
	}
	r.list[at] = seen{p, now}
	return p
}
