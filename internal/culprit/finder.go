package culprit

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// A Finder answers who changed what. Its methods may be called from several
// goroutines.
type Finder struct {
	host *host.Host
	log  *slog.Logger

	mu sync.Mutex
	// watcher is nil while nothing is watched.
	watcher *watcher
	// requests are what the service manager was asked for.
	requests *touches
	// ours are the parts of the logs of packages that are of our own doing.
	ours []span
	// told are, by package, how far what the logs say was told already.
	told map[string][]span
}

// New returns a finder that knows only what is written down anyway: the logs of
// the package managers.
func New(h *host.Host, log *slog.Logger) *Finder {
	return &Finder{host: h, log: log, requests: newTouches()}
}

// busPause is how long the bus is left alone after it was lost.
const busPause = time.Minute

// Start has the finder see what happens on the running system, as far as the
// kernel and its rights allow, and returns what ends that again. What is missing
// is told in one line for who debugs.
func (f *Finder) Start() (stop func()) {
	if f.host.Offline() {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var works sync.WaitGroup
	works.Go(func() { f.listen(ctx) })
	w, err := openWatcher(f.watchCommands(&works))
	if err != nil {
		f.log.Debug("who changes files cannot be told", "error", err)
	} else {
		for _, name := range systemctl {
			w.watchCommand(name)
		}
		f.mu.Lock()
		f.watcher = w
		f.mu.Unlock()
	}
	return func() {
		cancel()
		f.mu.Lock()
		f.watcher = nil
		f.mu.Unlock()
		if w != nil {
			w.close()
		}
		works.Wait()
	}
}

// watchCommands returns what is called when systemctl is started. It must not
// keep its caller: it looks at a few at a time.
func (f *Finder) watchCommands(works *sync.WaitGroup) func(pid int) bool {
	const together = 8
	slots := make(chan struct{}, together)
	return func(pid int) bool {
		select {
		case slots <- struct{}{}:
		default:
			return false
		}
		works.Go(func() {
			defer func() { <-slots }()
			if by, r, ok := commandOf(pid); ok {
				f.asked(by, r)
			}
		})
		return true
	}
}

// listen hears what the service manager is asked for over the bus.
func (f *Finder) listen(ctx context.Context) {
	for said := false; ; said = true {
		err := listen(ctx, func(pid int, uid uint32, r request) {
			by := look(pid)
			if !by.known() {
				by.uid = uid
			}
			f.asked(by, r)
		})
		if ctx.Err() != nil {
			return
		}
		if !said {
			f.log.Debug("who asks for changes of units over the bus cannot be told", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(busPause):
		}
	}
}

// asked notes what the service manager was asked for.
func (f *Finder) asked(by process, r request) {
	if by.own {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests.add(touch{what: r.what, units: r.units, by: by, when: time.Now()})
}

// Watching reports whether anything is seen as it happens.
func (f *Finder) Watching() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.watcher != nil
}

// Watch makes what is claimed what is watched from now on, and nothing else. It
// is to be called again when that may have become other files than it was.
func (f *Finder) Watch(claims []resource.Claim) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watcher == nil {
		return
	}
	var names []string
	for _, c := range claims {
		names = append(names, paths(c)...)
	}
	f.watcher.watch(distinct(names))
	for _, name := range systemctl {
		f.watcher.watchCommand(name)
	}
}

// Who returns who most likely was the last to change what is claimed, at or after
// a time; nil where nobody is known.
func (f *Finder) Who(claims []resource.Claim, since time.Time) *Culprit {
	var last *Culprit
	manager := false // what the service manager did, somebody asked it for
	for _, c := range claims {
		for _, found := range f.who(c, since) {
			byManager := found.PID == 1
			if last == nil || manager && !byManager || manager == byManager && found.When.After(last.When) {
				last, manager = found, byManager
			}
		}
	}
	return last
}

// Settle forgets who changed what is claimed before a time, and packages up to now: it
// has been told, and is not the cause of what comes next.
func (f *Finder) Settle(claims []resource.Claim, before time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range claims {
		switch c.Space {
		case resource.SpaceUnit:
			f.requests.settleUnit(c.Name, before)
		case resource.SpacePackage:
			f.settlePackage(c.Name)
		}
		if c.Space == resource.SpacePath && f.watcher != nil {
			f.watcher.settle(c.Name, before)
		}
	}
}

// who returns the candidates for one claim.
func (f *Finder) who(c resource.Claim, since time.Time) []*Culprit {
	var found []*Culprit
	switch c.Space {
	case resource.SpaceUnit:
		if t := f.request(c.Name, since); t != nil {
			found = append(found, f.name(t))
		}
	case resource.SpacePackage:
		if p := f.ofPackage(c.Name, since); p != nil {
			found = append(found, p)
		}
	}
	f.mu.Lock()
	w := f.watcher
	f.mu.Unlock()
	if w == nil {
		return found
	}
	for _, name := range paths(c) {
		if t := w.of(name, since); t != nil {
			found = append(found, f.name(t))
		}
	}
	return found
}

// request returns what the service manager was asked for last about a unit, at or
// after a time. Where a request was missed since, that one may have been the last.
func (f *Finder) request(unit string, since time.Time) *touch {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watcher != nil {
		if lost := f.watcher.missed(); lost.After(since) {
			since = lost
		}
	}
	return f.requests.ofUnit(unit, since)
}

// of returns the last touch of a path at or after a time, if any.
func (w *watcher) of(name string, since time.Time) *touch {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.touches.of(name, since)
}

func (w *watcher) settle(name string, before time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.touches.settle(name, before)
}

// name makes a culprit of a touch: numbers become names.
func (f *Finder) name(t *touch) *Culprit {
	c := &Culprit{
		PID: t.by.pid, Executable: tame(t.by.exe), Comm: tame(t.by.comm), User: f.user(t.by.uid),
		Unit: tame(t.by.unit), Via: t.by.via, What: t.what, When: t.when,
	}
	if c.What == "" {
		c.What = word(t.mask)
	} else if t.by.uid != 0 {
		c.What = "asked to be " + c.What // which may have been denied
	}
	switch {
	case t.by.login != nobody:
		c.LoginUser = f.user(t.by.login)
	case t.by.behind != nobody:
		c.LoginUser = f.user(t.by.behind)
	}
	return c
}

func (f *Finder) user(id uint32) string {
	if id == nobody {
		return ""
	}
	return tame(f.host.UserName(int(id)))
}
