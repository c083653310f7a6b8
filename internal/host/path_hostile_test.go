package host

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

const nobody = 65534

// home makes a directory that an ordinary user may write to, and another with
// things that must not change.
func home(t *testing.T) *Host {
	t.Helper()
	needRoot(t)
	h := scratch(t)
	// The user must get there.
	for dir := h.Root(); strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put(t, h, "/etc/secret", "the secret")
	put(t, h, "/etc/x", "not to be changed")
	put(t, h, "/etc/sub/x", "not to be changed")
	mkdirAll(t, h.Path("/home/bob/www"))
	for _, err := range []error{
		os.Chmod(h.Path("/etc/secret"), 0o600),
		os.Chown(h.Path("/home/bob"), nobody, nobody),
		os.Chown(h.Path("/home/bob/www"), nobody, nobody),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func TestALinkOfAnOrdinaryUserIsNotFollowed(t *testing.T) {
	for name, plant := range map[string]func(t *testing.T, h *Host){
		"absolute": func(t *testing.T, h *Host) { link(t, h, "/etc", "/home/bob/l") },
		"relative": func(t *testing.T, h *Host) { link(t, h, "../../etc", "/home/bob/l") },
		"through another": func(t *testing.T, h *Host) {
			link(t, h, "m", "/home/bob/l")
			link(t, h, "/etc", "/home/bob/m")
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := home(t)
			plant(t, h)
			if err := os.Lchown(h.Path("/home/bob/l"), nobody, nobody); err != nil {
				t.Fatal(err)
			}
			before := resourcetest.Fingerprint(t, h.Path("/etc"), true)
			own := Ownership{Owner: "65534"}
			diff := resource.Diff{{Field: FieldState}}
			for what, do := range map[string]func() error{
				"WriteFile": func() error { return h.WriteFile(t.Context(), "/home/bob/l/x", FileSpec{Content: text("bad")}) },
				"follow": func() error {
					return h.WriteFile(t.Context(), "/home/bob/l", FileSpec{Content: text("bad"), Follow: true})
				},
				"Mkdir":         func() error { return h.Mkdir("/home/bob/l/new", own) },
				"MakeParents":   func() error { return h.MakeParents("/home/bob/l/new/x") },
				"SetOwnership":  func() error { return h.SetOwnership("/home/bob/l/x", own, false) },
				"Symlink":       func() error { return h.Symlink("t", "/home/bob/l/x", own, false, true) },
				"Remove":        func() error { return h.Remove("/home/bob/l/x") },
				"RemoveAll":     func() error { return h.RemoveAll("/home/bob/l/sub") },
				"MakeDirectory": func() error { return h.MakeDirectory("/home/bob/l/x", own, diff, true, false) },
				"ReadFile":      func() error { _, err := h.ReadFile("/home/bob/l/secret", 100); return err },
				"Lstat":         func() error { _, err := h.Lstat("/home/bob/l/secret"); return err },
				"ReadDir":       func() error { _, err := h.ReadDir("/home/bob/l/sub"); return err },
			} {
				var hostile *HostileLinkError
				if err := do(); !errors.As(err, &hostile) {
					t.Errorf("%s returned %v", what, err)
				}
			}
			after := resourcetest.Fingerprint(t, h.Path("/etc"), true)
			if strings.Join(before, "\n") != strings.Join(after, "\n") {
				t.Errorf("was\n%s\nis\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
			}
		})
	}
}

func TestALinkIsFollowedWhereNobodyElseCanMoveIt(t *testing.T) {
	for _, c := range []struct {
		name     string
		dir      int // its owner
		mode     fs.FileMode
		link     int
		followed bool
	}{
		{"root's, in a directory of root's", 0, 0o755, 0, true},
		{"root's, in a directory of root's group", 0, 0o775, 0, true},
		{"root's, in a sticky directory", 0, 0o777 | fs.ModeSticky, 0, true},
		{"root's, in a directory of a user, who can move it", nobody, 0o755, 0, false},
		{"root's, in a directory that is open to all", 0, 0o777, 0, false},
		{"a user's, in a directory that was his", 0, 0o755, nobody, false},
		{"a user's, in a sticky directory", 0, 0o777 | fs.ModeSticky, nobody, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := home(t)
			mkdirAll(t, h.Path("/srv"))
			link(t, h, "/srv", "/home/bob/l")
			for _, err := range []error{
				os.Lchown(h.Path("/home/bob/l"), c.link, c.link),
				os.Chown(h.Path("/home/bob"), c.dir, c.dir), os.Chmod(h.Path("/home/bob"), c.mode),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			err := h.WriteFile(t.Context(), "/home/bob/l/x", FileSpec{Content: text("x")})
			var hostile *HostileLinkError
			switch {
			case !c.followed && !errors.As(err, &hostile):
				t.Errorf("error %v", err)
			case c.followed && err != nil:
				t.Error(err)
			case c.followed:
				holds(t, h, "/srv/x", "x")
			}
		})
	}
}

func TestALinkIsNotFollowedInADirectoryThatAUserCanReplace(t *testing.T) {
	h := home(t)
	mkdirAll(t, h.Path("/srv"))
	mkdirAll(t, h.Path("/home/bob/roots"))
	link(t, h, "/srv", "/home/bob/roots/l")
	var hostile *HostileLinkError
	if err := h.WriteFile(t.Context(), "/home/bob/roots/l/x", FileSpec{Content: text("x")}); !errors.As(err, &hostile) {
		t.Errorf("error %v", err)
	}
}

// Given back, it would have one name, and pass for a file of the directory's owner.
func TestAPrivateFileWithOtherNamesIsNotGivenBack(t *testing.T) {
	h := home(t)
	const name = "/home/bob/www/x"
	if err := os.Link(h.Path("/etc/secret"), h.Path(name)); err != nil {
		t.Fatal(err)
	}
	found, err := h.CompareFile(t.Context(), name, FileSpec{Content: text("new"), Backup: true})
	if err != nil {
		t.Fatal(err)
	}
	noted, err := h.NotePath(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.WriteFile(t.Context(), name, FileSpec{Content: text("new"), Backup: true}); err != nil {
		t.Fatal(err)
	}
	for _, prior := range []PathPrior{found.Prior, noted} {
		if err := h.RestorePath(t.Context(), name, prior); err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(h.Path(name)); err != nil || string(data) == "the secret" {
			t.Errorf("it is %q, error %v", data, err)
		}
	}
	holds(t, h, "/etc/secret", "the secret")
}

// What has other names may have been linked where it is when others could do that.
func TestAFileWithOtherNamesIsNotCopiedForMoreReaders(t *testing.T) {
	for _, c := range []struct {
		name   string
		mode   fs.FileMode
		spec   FileSpec
		copied bool
	}{
		{"private, to be read by all", 0o600, FileSpec{Mode: resource.NewMode(0o644)}, false},
		{"private, to be a user's", 0o600, FileSpec{Owner: "65534"}, false},
		{"private, to be more so", 0o640, FileSpec{Mode: resource.NewMode(0o600)}, true},
		{"public, to be a user's", 0o644, FileSpec{Owner: "65534"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := home(t)
			if err := os.Chmod(h.Path("/etc/secret"), c.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Link(h.Path("/etc/secret"), h.Path("/etc/other")); err != nil {
				t.Fatal(err)
			}
			if err := h.WriteFile(t.Context(), "/etc/other", c.spec); (err == nil) != c.copied {
				t.Errorf("error %v", err)
			}
			if i, err := h.Lstat("/etc/secret"); err != nil || i.UID() != 0 || i.Mode().FileMode() != c.mode {
				t.Errorf("by its other name it is %d's, with mode %s, error %v", i.UID(), i.Mode(), err)
			}
		})
	}
}

// A private file that gets a copy without other names could be given away with
// the directory later on.
func TestNoCopyIsMadeThatNothingAsksFor(t *testing.T) {
	h := home(t)
	if err := os.Link(h.Path("/etc/secret"), h.Path("/etc/other")); err != nil {
		t.Fatal(err)
	}
	if err := h.WriteFile(t.Context(), "/etc/other", FileSpec{Owner: "0", Mode: resource.NewMode(0o600)}); err != nil {
		t.Fatal(err)
	}
	if i, err := h.Lstat("/etc/other"); err != nil || i.Links() != 2 {
		t.Errorf("it has %d names, error %v", i.Links(), err)
	}
}

// A name that is taken away while the file is opened must not make it seem to have
// no other.
func TestAFileWhoseNameIsTakenAwayHasOtherNamesStill(t *testing.T) {
	h := home(t)
	const name = "/home/bob/www/x"
	opened := 0
	for range 3_000 {
		if err := os.Link(h.Path("/etc/secret"), h.Path(name)); err != nil {
			t.Fatal(err)
		}
		p, err := h.resolve(name, false)
		if err != nil {
			t.Fatal(err)
		}
		removed := make(chan error, 1)
		go func() { removed <- os.Remove(h.Path(name)) }()
		for {
			f, i, err := p.open(name)
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
			if err != nil {
				continue // it was replaced, as far as it could be told
			}
			opened++
			_ = f.Close()
			if i.Links() < 2 || i.returnable("sum") != "" {
				t.Fatalf("it has %d names", i.Links())
			}
		}
		p.close()
		if err := <-removed; err != nil {
			t.Fatal(err)
		}
	}
	if opened == 0 {
		t.Error("it was never there to be opened")
	}
}

// A temporary file in a directory of somebody else's can be taken away, and is
// root's with one name from then on: what must not be given away must not be in
// it either.
func TestWhatIsNotToBeCopiedIsNotCopiedForAMoment(t *testing.T) {
	h := home(t)
	const name = "/home/bob/www/x"
	if err := os.Link(h.Path("/etc/secret"), h.Path(name)); err != nil {
		t.Fatal(err)
	}
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(watch) }()
	if _, err := unix.InotifyAddWatch(watch, h.Path("/home/bob/www"), unix.IN_MODIFY); err != nil {
		t.Fatal(err)
	}
	written := func() bool {
		n, err := unix.Read(watch, make([]byte, 4096))
		return err == nil && n > 0
	}
	if err := h.WriteFile(t.Context(), name, FileSpec{Owner: "65534"}); err == nil || written() {
		t.Errorf("the secret was copied, for a moment at least; error %v", err)
	}
	// So that the watch is seen to see.
	if err := h.WriteFile(t.Context(), name, FileSpec{Content: text("new")}); err != nil || !written() {
		t.Errorf("nothing was written; error %v", err)
	}
}

func TestAHardLinkIsNotGivenAway(t *testing.T) {
	h := home(t)
	if err := os.Link(h.Path("/etc/secret"), h.Path("/home/bob/www/x")); err != nil {
		t.Fatal(err)
	}
	const name = "/home/bob/www/x"
	spec := FileSpec{Owner: "65534", Mode: resource.NewMode(0o644)}
	if err := h.WriteFile(t.Context(), name, spec); err == nil {
		t.Error("another name of root's file was given away")
	}
	if err := h.SetOwnership(name, Ownership{Owner: "65534"}, false); err == nil {
		t.Error("root's file was given away by another name")
	}
	spec.Content = text("new")
	found, err := h.CompareFile(t.Context(), name, spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range found.Diff {
		if strings.Contains(c.Unified+c.Old, "secret") {
			t.Errorf("the difference shows it: %+v", c)
		}
	}
	if err := h.WriteFile(t.Context(), name, spec); err != nil {
		t.Fatal(err)
	}
	holds(t, h, "/etc/secret", "the secret")
	if i, err := h.Lstat("/etc/secret"); err != nil || i.UID() != 0 || i.Mode().Bits() != 0o600 {
		t.Errorf("the file behind it has owner %d and mode %s, error %v", i.UID(), i.Mode(), err)
	}
}

// TestAnOrdinaryUserWinsNoRace lets a user change all that can be changed in a
// directory while files are written, owned and removed there.
func TestAnOrdinaryUserWinsNoRace(t *testing.T) {
	h := home(t)
	before := resourcetest.Fingerprint(t, h.Path("/etc"), true)
	stop, rounds := make(chan struct{}), 500
	var attack sync.WaitGroup
	attack.Go(func() { asNobody(t, func() { plant(h.Path("/home/bob"), h.Path("/etc"), stop) }) })
	for n := range rounds {
		write(t, h, n)
	}
	close(stop)
	attack.Wait()
	after := resourcetest.Fingerprint(t, h.Path("/etc"), true)
	if strings.Join(before, "\n") != strings.Join(after, "\n") {
		t.Errorf("was\n%s\nis\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	_ = filepath.WalkDir(h.Path("/home"), func(name string, e fs.DirEntry, _ error) error {
		if !e.Type().IsRegular() {
			return nil
		}
		if data, err := os.ReadFile(name); err == nil && string(data) == "the secret" {
			t.Errorf("%s is a copy of the secret", name)
		}
		return nil
	})
}

// write does one round of all that is done to paths. What fails is what the
// user made fail.
func write(t *testing.T, h *Host, n int) {
	ctx, own := t.Context(), Ownership{Owner: "65534", Mode: resource.NewMode(0o755)}
	_ = h.WriteFile(ctx, "/home/bob/www/x", FileSpec{Content: text("new"), Owner: "65534", Parents: n%2 == 0, Backup: true})
	_ = h.WriteFile(ctx, "/home/bob/www/secret", FileSpec{Owner: "65534", Mode: resource.NewMode(0o644)})
	_ = h.WriteFile(ctx, "/home/bob/www/x", FileSpec{Content: text("new"), Follow: true, Force: true})
	_ = h.Mkdir("/home/bob/www/sub", own)
	_ = h.SetOwnership("/home/bob/www/sub", own, n%2 == 0)
	_ = h.SetOwnership("/home/bob/www/x", own, n%2 == 0)
	_ = h.Symlink("nowhere", "/home/bob/www/l", own, true, true)
	_, _ = h.CompareFile(ctx, "/home/bob/www/x", FileSpec{Content: text("new")})
	_ = h.RemoveAll("/home/bob/www/sub")
	_ = h.Remove("/home/bob/www/x")
}

// asNobody runs f in a thread of its own that is an ordinary user's. The thread
// ends with it.
func asNobody(t *testing.T, f func()) {
	runtime.LockOSThread()
	for _, call := range [][4]uintptr{
		{unix.SYS_SETGROUPS, 0, 0, 0},
		{unix.SYS_SETRESGID, nobody, nobody, nobody},
		{unix.SYS_SETRESUID, nobody, nobody, nobody},
	} {
		// Package unix would change all threads.
		if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
			t.Errorf("cannot become an ordinary user: %v", errno)
			return
		}
	}
	f()
}

// plant changes what is in a directory until stop is closed.
func plant(dir, target string, stop <-chan struct{}) {
	www, aside := filepath.Join(dir, "www"), filepath.Join(dir, "aside")
	moves := []func(){
		func() { _ = unix.Rename(www, aside); _ = unix.Symlink(target, www) },
		func() { _ = unix.Unlink(www); _ = unix.Rename(aside, www) },
		func() { _ = unix.Unlink(www); _ = unix.Mkdir(www, 0o755) },
		func() { _ = unix.Symlink(target, filepath.Join(www, "sub")) },
		func() {
			_ = unix.Unlink(filepath.Join(www, "x"))
			_ = unix.Symlink(target+"/x", filepath.Join(www, "x"))
		},
		func() { _ = unix.Unlink(filepath.Join(www, "x")); _ = unix.Mkfifo(filepath.Join(www, "x"), 0o666) },
		func() { _ = unix.Link(target+"/secret", filepath.Join(www, "secret")) },
		func() { _ = unix.Link(target+"/x", filepath.Join(www, "x")) },
		func() { _ = unix.Rename(filepath.Join(www, "sub"), filepath.Join(www, "other")) },
		func() { swapTemporaries(www, target) },
	}
	for {
		select {
		case <-stop:
			return
		default:
			moves[rand.IntN(len(moves))]()
		}
	}
}

// swapTemporaries replaces files that are being written by links.
func swapTemporaries(dir, target string) {
	names, _ := filepath.Glob(filepath.Join(dir, TemporaryPrefix+"*"))
	for _, name := range names {
		_ = unix.Unlink(name)
		_ = unix.Symlink(target+"/x", name)
	}
}

func FuzzResolve(f *testing.F) {
	for _, seed := range [][2]string{
		{"/l/x", "/outside"}, {"/l/x", "../../.."}, {"/a/l/../x", "."}, {"/l", "l"}, {"//", ""}, {"/l/./x", "a/../../.."},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, name, target string) {
		dir := t.TempDir()
		root := filepath.Join(dir, "root")
		if err := os.MkdirAll(filepath.Join(root, "a"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(dir, "outside"), 0o755); err != nil {
			t.Fatal(err)
		}
		_ = os.Symlink(target, filepath.Join(root, "l"))
		_ = os.Symlink(target, filepath.Join(root, "a", "l"))
		h := New(root, Options{})
		for _, follow := range []bool{false, true} {
			_ = h.WriteFile(t.Context(), name, FileSpec{Content: text("x"), Follow: follow, Parents: true})
		}
		_ = h.RemoveAll(name)
		for at, want := range map[string]int{dir: 2, filepath.Join(dir, "outside"): 0} {
			if entries, err := os.ReadDir(at); err != nil || len(entries) != want {
				t.Errorf("with %q and a link to %q there is %v in %s, error %v", name, target, entries, at, err)
			}
		}
	})
}
