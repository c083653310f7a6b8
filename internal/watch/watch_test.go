package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// A fixture is a watcher of a tree of the test's own.
type fixture struct {
	*Watcher
	root string
}

func start(t *testing.T, change func(*Options), targets ...Target) fixture {
	t.Helper()
	f := fixture{root: t.TempDir()}
	o := Options{Root: f.root, Log: slog.New(slog.DiscardHandler), Quiet: 20 * time.Millisecond, Longest: 200 * time.Millisecond, Poll: time.Hour}
	if change != nil {
		change(&o)
	}
	f.Watcher = New(o)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		f.Run(ctx)
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return f
}

func (f fixture) mkdir(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.MkdirAll(filepath.Join(f.root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func (f fixture) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(f.root, name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// next returns what is told next.
func (f fixture) next(t *testing.T) Batch {
	t.Helper()
	for {
		select {
		case <-f.Ready():
			if b := f.Take(); !b.Empty() {
				return b
			}
		case <-time.After(time.Minute):
			t.Fatal("nothing is told")
		}
	}
}

// tells expects that exactly these are told of next.
func (f fixture) tells(t *testing.T, want ...resource.Address) {
	t.Helper()
	seen := map[resource.Address]bool{}
	for _, a := range want {
		seen[a] = false
	}
	for slices.Contains(want, a(seen)) {
		b := f.next(t)
		if b.Everything != "" {
			t.Fatalf("everything is suspect: %s", b.Everything)
		}
		for _, a := range b.Addresses {
			if _, wanted := seen[a]; !wanted {
				t.Fatalf("%s is told of, want %v", a, want)
			}
			seen[a] = true
		}
	}
}

// a returns one that is false.
func a(seen map[resource.Address]bool) resource.Address {
	for a, told := range seen {
		if !told {
			return a
		}
	}
	return resource.Address{}
}

// silent expects that nothing is told of a change, by one that is told of after it.
func (f fixture) silent(t *testing.T, proof resource.Address, change, prove func()) {
	t.Helper()
	change()
	prove()
	f.tells(t, proof)
}

func file(name string, also ...resource.Watch) Target {
	return Target{Address: resource.Address{Kind: "file", Name: name}, Watches: append(resource.WatchPaths(name), also...)}
}

func tree(name string) Target {
	return Target{Address: resource.Address{Kind: "directory", Name: name}, Watches: []resource.Watch{{Space: resource.WatchTree, Name: name}}}
}

func TestAThousandFilesInFiftyDirectoriesCostFiftyWatches(t *testing.T) {
	f := start(t, nil)
	var targets []Target
	for d := range 50 {
		f.mkdir(t, fmt.Sprintf("srv/d%d", d))
		for i := range 20 {
			targets = append(targets, file(fmt.Sprintf("/srv/d%d/f%d", d, i)))
		}
	}
	f.Watch(targets)
	if n := f.Status().Directories; n != 50 {
		t.Errorf("they cost %d watches", n)
	}
	if n := inKernel(t); n < 50 {
		t.Errorf("the kernel has %d watches", n)
	}
}

// inKernel counts the watches that this process has.
func inKernel(t *testing.T) int {
	t.Helper()
	infos, err := filepath.Glob("/proc/self/fdinfo/*")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range infos {
		data, _ := os.ReadFile(name)
		n += strings.Count(string(data), "inotify wd:")
	}
	return n
}

func TestEveryWayToChangeAFileIsSeen(t *testing.T) {
	f := start(t, nil)
	f.mkdir(t, "etc", "srv")
	f.write(t, "etc/motd", "one")
	one, other := file("/etc/motd"), file("/etc/other")
	f.Watch([]Target{one, other})
	at := filepath.Join(f.root, "etc/motd")
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, change := range map[string]func(){
		"write":    func() { f.write(t, "etc/motd", "two") },
		"truncate": func() { f.write(t, "etc/motd", "x"); do(os.Truncate(at, 0)) },
		"chmod":    func() { do(os.Chmod(at, 0o600)); do(os.Chmod(at, 0o644)) },
		"time":     func() { do(os.Chtimes(at, time.Unix(1, 0), time.Unix(1, 0))) },
		"replace":  func() { f.write(t, "etc/.new", "three"); do(os.Rename(filepath.Join(f.root, "etc/.new"), at)) },
		"again":    func() { f.write(t, "srv/new", "four"); do(os.Rename(filepath.Join(f.root, "srv/new"), at)) },
		"remove":   func() { do(os.Remove(at)); f.write(t, "etc/motd", "five") },
		"away":     func() { do(os.Rename(at, filepath.Join(f.root, "srv/away"))); f.write(t, "etc/motd", "six") },
	} {
		t.Run(name, func(t *testing.T) {
			f.silent(t, one.Address, func() { f.write(t, "etc/unmanaged", name) }, change)
			f.drain()
		})
	}
}

func TestADirectoryThatIsNotThereIsWaitedForAbove(t *testing.T) {
	f := start(t, nil)
	f.mkdir(t, "srv")
	deep := file("/srv/a/b/c/file")
	f.Watch([]Target{deep})
	f.mkdir(t, "srv/a/b")
	f.tells(t, deep.Address)
	f.mkdir(t, "srv/a/b/c")
	f.tells(t, deep.Address)
	if n := f.Status().Directories; n != 1 {
		t.Errorf("%d directories are watched, want the one alone", n)
	}
	f.write(t, "srv/a/b/c/file", "x")
	f.tells(t, deep.Address)
	if err := os.RemoveAll(filepath.Join(f.root, "srv/a")); err != nil {
		t.Fatal(err)
	}
	f.tells(t, deep.Address)
	f.mkdir(t, "srv/a/b/c")
	f.tells(t, deep.Address)
}

func TestADirectoryThatIsReplacedIsWatchedAnew(t *testing.T) {
	f := start(t, nil)
	f.mkdir(t, "srv/app/conf", "srv/next/conf")
	one := file("/srv/app/conf/one")
	f.Watch([]Target{{Address: resource.Address{Kind: "directory", Name: "/srv/app"}, Watches: resource.WatchPaths("/srv/app")}, one})
	for _, move := range [][2]string{{"srv/app", "srv/old"}, {"srv/next", "srv/app"}} {
		if err := os.Rename(filepath.Join(f.root, move[0]), filepath.Join(f.root, move[1])); err != nil {
			t.Fatal(err)
		}
	}
	f.tells(t, one.Address, resource.Address{Kind: "directory", Name: "/srv/app"})
	f.silent(t, one.Address, func() {}, func() { f.write(t, "srv/app/conf/one", "new") })
}

// Nobody tells when a directory above is renamed that nothing is known of.
func TestADirectoryWhoseParentIsRenamedIsFound(t *testing.T) {
	f := start(t, func(o *Options) { o.Poll = 50 * time.Millisecond })
	f.mkdir(t, "srv/app/conf")
	one := file("/srv/app/conf/one")
	f.Watch([]Target{one})
	if err := os.Rename(filepath.Join(f.root, "srv/app"), filepath.Join(f.root, "srv/old")); err != nil {
		t.Fatal(err)
	}
	f.tells(t, one.Address)
	f.mkdir(t, "srv/app/conf")
	f.tells(t, one.Address)
}

func TestNewDirectoriesOfATreeAreWatched(t *testing.T) {
	f := start(t, nil)
	f.mkdir(t, "srv/tree/a")
	all := tree("/srv/tree")
	f.Watch([]Target{all})
	for _, name := range []string{"srv/tree/new/below", "srv/tree/a/b/c"} {
		f.mkdir(t, name)
		f.tells(t, all.Address)
		f.write(t, name+"/file", "x")
		f.tells(t, all.Address)
	}
}

func TestADirectoryWithTwoNamesHasOneWatchAndBothAreTold(t *testing.T) {
	f := start(t, nil)
	f.mkdir(t, "usr/lib/x")
	if err := os.Symlink("usr/lib", filepath.Join(f.root, "lib")); err != nil {
		t.Fatal(err)
	}
	one, two := file("/usr/lib/x/one"), file("/lib/x/one")
	f.Watch([]Target{one, two})
	if n := f.Status().Directories; n != 1 {
		t.Errorf("%d watches", n)
	}
	f.write(t, "usr/lib/x/one", "x")
	f.tells(t, one.Address, two.Address)
}

func TestWhatTheKernelWillNotWatchIsPolled(t *testing.T) {
	f := start(t, func(o *Options) { o.Poll = 30 * time.Millisecond })
	f.mkdir(t, "srv/a", "srv/b")
	full := true
	add := f.paths.add
	f.paths.add = func(name string) error {
		if full && strings.HasSuffix(name, "/srv/b") {
			return syscall.ENOSPC
		}
		return add(name)
	}
	one, two := file("/srv/a/one"), file("/srv/b/two")
	f.Watch([]Target{one, two})
	s := f.Status()
	if s.Directories != 1 || s.Polled != 1 || !strings.Contains(s.Limit, syscall.ENOSPC.Error()) {
		t.Errorf("status is %+v", s)
	}
	f.tells(t, two.Address)
	f.tells(t, two.Address) // time and again
	f.tree.Lock()
	full = false
	f.tree.Unlock()
	for s := f.Status(); s.Limit != "" || s.Polled != 0 || s.Directories != 2; s = f.Status() {
		select {
		case <-f.Ready():
			f.Take()
		case <-t.Context().Done():
			t.Fatal("it is polled still")
		}
	}
}

func TestAnOverflowMakesEverythingSuspect(t *testing.T) {
	f := start(t, nil)
	f.mkdir(t, "srv")
	f.Watch([]Target{file("/srv/one")})
	f.paths.notify.Errors <- fsnotify.ErrEventOverflow
	if b := f.next(t); b.Everything == "" {
		t.Errorf("only %v is", b.Addresses)
	}
}

// What was lost may have been that a directory is another one by now.
func TestAfterAnOverflowDirectoriesAreLookedAtAnew(t *testing.T) {
	f := start(t, nil)
	f.mkdir(t, "srv/app/conf", "srv/next/conf")
	one := file("/srv/app/conf/one")
	f.Watch([]Target{one})
	for _, move := range [][2]string{{"srv/app", "srv/old"}, {"srv/next", "srv/app"}} { // which nobody tells of
		if err := os.Rename(filepath.Join(f.root, move[0]), filepath.Join(f.root, move[1])); err != nil {
			t.Fatal(err)
		}
	}
	f.paths.notify.Errors <- fsnotify.ErrEventOverflow
	if b := f.next(t); b.Everything == "" {
		t.Fatalf("only %v is suspect", b.Addresses)
	}
	f.write(t, "srv/app/conf/one", "x")
	f.tells(t, one.Address)
}

func TestAStormIsToldAsLittleAndSoon(t *testing.T) {
	f := start(t, nil)
	f.mkdir(t, "srv/tree")
	all := tree("/srv/tree")
	f.Watch([]Target{all, file("/srv/one")})
	go func() {
		for i := range 20_000 {
			name := filepath.Join(f.root, "srv/tree", strconv.Itoa(i%100))
			_ = os.WriteFile(name, []byte{byte(i)}, 0o644)
		}
		_ = os.WriteFile(filepath.Join(f.root, "srv/one"), nil, 0o644)
	}()
	for {
		b := f.next(t)
		if len(b.Addresses) > 2 {
			t.Fatalf("%d are told of at once", len(b.Addresses))
		}
		if b.Everything != "" || slices.Contains(b.Addresses, resource.Address{Kind: "file", Name: "/srv/one"}) {
			return
		}
	}
}

func TestWhatAKeeperWorksOnWaitsForIt(t *testing.T) {
	f := start(t, func(o *Options) {
		o.Packaged = func(path string) (bool, error) { return path == "/etc/packaged", nil }
	})
	f.mkdir(t, "var/lib/dpkg", "etc")
	f.write(t, "var/lib/dpkg/lock", "")
	held := hold(t, filepath.Join(f.root, "var/lib/dpkg/lock"))
	database := Target{Address: resource.Address{Kind: "package", Name: "tree"}, Watches: []resource.Watch{{
		Space: resource.WatchDatabase, Name: "/var/lib/dpkg/status", Locks: []string{"/var/lib/dpkg/lock"},
	}}}
	packaged, plain := file("/etc/packaged"), file("/etc/plain")
	f.Watch([]Target{database, packaged, plain})
	f.write(t, "var/lib/dpkg/status", "x")
	f.write(t, "etc/packaged", "x")
	f.write(t, "etc/plain", "x")
	f.tells(t, plain.Address)
	held()
	f.tells(t, database.Address, packaged.Address)
}

// What was lost may have been anything: what nobody is at work on is looked at now,
// and all of it when he is done.
func TestEverythingIsSuspectOnceNobodyIsAtWorkOnPackages(t *testing.T) {
	asked := map[string]int{}
	f := start(t, func(o *Options) {
		o.Packaged = func(path string) (bool, error) { asked[path]++; return path == "/etc/packaged", nil }
	})
	f.mkdir(t, "var/lib/dpkg", "etc")
	f.write(t, "var/lib/dpkg/lock", "")
	held := hold(t, filepath.Join(f.root, "var/lib/dpkg/lock"))
	database := Target{Address: resource.Address{Kind: "package", Name: "tree"}, Watches: []resource.Watch{{
		Space: resource.WatchDatabase, Name: "/var/lib/dpkg/status", Locks: []string{"/var/lib/dpkg/lock"},
	}}}
	packaged, plain := file("/etc/packaged"), file("/etc/plain")
	f.Watch([]Target{database, packaged, plain})
	f.Suspect("because")
	f.tells(t, plain.Address)
	f.silent(t, plain.Address, func() { time.Sleep(3 * lockPause) }, func() { f.write(t, "etc/plain", "x") })
	held()
	if b := f.next(t); b.Everything != "because" {
		t.Errorf("%+v comes", b)
	}
	if n := asked["/etc/packaged"]; n != 1 {
		t.Errorf("it is asked %d times whose the file is", n)
	}
}

// A mount that hangs must not keep the daemon from the rest of the host.
func TestAFileSystemThatDoesNotAnswerKeepsNothingElseBack(t *testing.T) {
	f := start(t, nil)
	f.mkdir(t, "srv/hangs")
	answer, asked := make(chan bool), make(chan bool)
	add := f.paths.add
	f.paths.add = func(name string) error {
		asked <- true
		<-answer
		return add(name)
	}
	one := file("/srv/hangs/one")
	watched := make(chan bool)
	go func() {
		f.Watch([]Target{one})
		close(watched)
	}()
	<-asked
	f.Suspect("because")
	if b := f.next(t); b.Everything != "because" {
		t.Errorf("%+v comes", b)
	}
	f.Again(Batch{Addresses: []resource.Address{one.Address}}, time.Millisecond)
	f.tells(t, one.Address)
	if s := f.Status(); s.Directories != 0 || !f.Watching() {
		t.Errorf("status is %+v", s)
	}
	close(answer)
	<-watched
	if s := f.Status(); s.Directories != 1 {
		t.Errorf("status is %+v", s)
	}
}

// However often it cannot be looked into, it comes again once.
func TestEverythingIsGivenBackOnce(t *testing.T) {
	f := start(t, nil)
	for range 100 {
		f.Again(Batch{Everything: "because"}, 10*time.Millisecond)
	}
	f.mu.Lock()
	later := f.everythingLater
	f.mu.Unlock()
	if b := f.next(t); b.Everything != "because" || !later {
		t.Errorf("%+v comes", b)
	}
}

func TestWhatWasGivenBackComesAgain(t *testing.T) {
	f := start(t, nil)
	f.mkdir(t, "etc")
	one := file("/etc/one")
	f.Watch([]Target{one})
	f.Again(Batch{Addresses: []resource.Address{one.Address}}, time.Millisecond)
	f.tells(t, one.Address)
	f.Again(Batch{Everything: "because"}, time.Millisecond)
	if b := f.next(t); b.Everything != "because" {
		t.Errorf("%+v comes", b)
	}
}

func TestWhatIsNotWatchedAnyMoreCostsNothing(t *testing.T) {
	f := start(t, nil)
	f.mkdir(t, "srv/a", "srv/b", "srv/tree/c/d")
	f.Watch([]Target{file("/srv/a/one"), file("/srv/none/one"), tree("/srv/tree")})
	two := file("/srv/b/two")
	f.Watch([]Target{two})
	if s := f.Status(); s.Directories != 1 {
		t.Errorf("%d directories are watched", s.Directories)
	}
	f.silent(t, two.Address, func() { f.write(t, "srv/a/one", "x") }, func() { f.write(t, "srv/b/two", "x") })
}

// fakeUnits are units that say what the test says.
type fakeUnits struct {
	signals chan host.UnitSignal
	lose    chan error
	begun   chan struct{}
	own     map[string]string
}

func (u *fakeUnits) Signals(ctx context.Context, begun func(), heard func(host.UnitSignal)) error {
	begun()
	u.begun <- struct{}{}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-u.lose:
			return err
		case s := <-u.signals:
			heard(s)
		}
	}
}

func (u *fakeUnits) Units(_ context.Context, names []string) ([]host.UnitStatus, error) {
	list := make([]host.UnitStatus, len(names))
	for i, name := range names {
		list[i].Name = name
		if own := u.own[name]; own != "" {
			list[i].Name = own
		}
	}
	return list, nil
}

func TestUnitsAreToldOfByEveryName(t *testing.T) {
	u := &fakeUnits{
		signals: make(chan host.UnitSignal), lose: make(chan error), begun: make(chan struct{}, 9),
		own: map[string]string{"sshd.service": "ssh.service"},
	}
	f := start(t, func(o *Options) { o.Units = u })
	<-u.begun
	unit := func(name string) Target {
		return Target{Address: resource.Address{Kind: "unit", Name: name}, Watches: []resource.Watch{{Space: resource.WatchUnit, Name: name}}}
	}
	nginx, sshd := unit("nginx.service"), unit("sshd.service")
	f.Watch([]Target{nginx, sshd})
	u.signals <- host.UnitSignal{Unit: "other.service"}
	u.signals <- host.UnitSignal{Unit: "nginx.service"}
	f.tells(t, nginx.Address)
	u.signals <- host.UnitSignal{Unit: "ssh.service"}
	f.tells(t, sshd.Address)
	u.signals <- host.UnitSignal{}
	f.tells(t, nginx.Address, sshd.Address)
	u.lose <- errors.New("lost")
	<-u.begun
	if b := f.next(t); b.Everything == "" {
		t.Errorf("after the connection was lost only %v is suspect", b.Addresses)
	}
}

// A directory that is moved away and removed before anybody looks has the kernel
// end its watch twice.
func TestDirectoriesThatAreMovedAwayAndRemovedStopNothing(t *testing.T) {
	f := start(t, nil)
	var targets []Target
	const dirs, rounds = 20, 50
	for d := range dirs {
		f.mkdir(t, fmt.Sprintf("srv/d%d", d))
		targets = append(targets, file(fmt.Sprintf("/srv/d%d/one", d)))
	}
	f.Watch(targets)
	for range rounds {
		for d := range dirs {
			at, away := filepath.Join(f.root, fmt.Sprintf("srv/d%d", d)), filepath.Join(f.root, fmt.Sprintf("away%d", d))
			if err := errors.Join(os.Rename(at, away), os.Remove(away), os.Mkdir(at, 0o755)); err != nil {
				t.Fatal(err)
			}
		}
	}
	alive := make(chan Status)
	go func() { alive <- f.Status() }()
	select {
	case <-alive:
	case <-time.After(time.Minute):
		t.Fatal("it hangs")
	}
	last := targets[dirs-1].Address
	for settled := false; !settled; {
		select {
		case <-f.Ready():
			if b := f.Take(); b.Everything != "" {
				t.Fatalf("everything is suspect: %s", b.Everything)
			}
		case <-time.After(2 * time.Second):
			settled = true
		}
	}
	f.write(t, fmt.Sprintf("srv/d%d/one", dirs-1), "x")
	f.tells(t, last)
}

// What the kernel would not watch at first may hold more, in a tree.
func TestATreeIsWatchedAsAWholeOnceTheKernelDoes(t *testing.T) {
	f := start(t, func(o *Options) { o.Poll = 30 * time.Millisecond })
	f.mkdir(t, "srv/tree/a/b")
	full := true
	add := f.paths.add
	f.paths.add = func(name string) error {
		if full && strings.HasSuffix(name, "/srv/tree/a") {
			return syscall.ENOSPC
		}
		return add(name)
	}
	all := tree("/srv/tree")
	f.Watch([]Target{all})
	f.tells(t, all.Address) // which is polled
	f.tree.Lock()
	full = false
	f.tree.Unlock()
	for s := f.Status(); s.Limit != "" || s.Polled != 0; s = f.Status() {
		f.tells(t, all.Address)
	}
	if s := f.Status(); s.Directories != 4 {
		t.Errorf("status is %+v", s)
	}
	f.drain()
	f.write(t, "srv/tree/a/b/file", "x")
	f.tells(t, all.Address)
}

// drain takes what comes late of what was done.
func (f fixture) drain() {
	for {
		select {
		case <-f.Ready():
			f.Take()
		case <-time.After(100 * time.Millisecond):
			return
		}
	}
}

// Nobody tells when something is mounted on a directory of a tree, nor when it goes.
func TestWhatIsMountedInATreeIsWatchedAndWhatWasBelowItAfterwards(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a tmpfs")
	}
	f := start(t, func(o *Options) { o.Poll = 50 * time.Millisecond })
	f.mkdir(t, "srv/tree/a/b")
	all := tree("/srv/tree")
	f.Watch([]Target{all})
	at := filepath.Join(f.root, "srv/tree/a")
	if err := syscall.Mount("tmpfs", at, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("needs to mount a tmpfs: %v", err)
	}
	mounted := true
	defer func() {
		if mounted {
			_ = syscall.Unmount(at, syscall.MNT_DETACH)
		}
	}()
	f.tells(t, all.Address)
	f.drain()
	f.write(t, "srv/tree/a/file", "x")
	f.tells(t, all.Address)
	f.drain()
	if err := syscall.Unmount(at, 0); err != nil {
		t.Fatal(err)
	}
	mounted = false
	f.tells(t, all.Address)
	f.drain()
	f.write(t, "srv/tree/a/b/file", "x")
	f.tells(t, all.Address)
}

// lateUnits are those of a service manager that is there later.
type lateUnits struct {
	*fakeUnits
	there chan struct{}
}

func (u lateUnits) Signals(ctx context.Context, begun func(), heard func(host.UnitSignal)) error {
	<-u.there
	return u.fakeUnits.Signals(ctx, begun, heard)
}

// What happened to units before anybody listened was told to nobody.
func TestUnitsAreSuspectOnceTheyAreListenedFor(t *testing.T) {
	u := lateUnits{&fakeUnits{begun: make(chan struct{}, 9)}, make(chan struct{})}
	f := start(t, func(o *Options) { o.Units = u })
	nginx := Target{Address: resource.Address{Kind: "unit", Name: "nginx.service"}, Watches: []resource.Watch{{Space: resource.WatchUnit, Name: "nginx.service"}}}
	f.Watch([]Target{nginx, file("/etc/motd")})
	close(u.there)
	f.tells(t, nginx.Address)
}
