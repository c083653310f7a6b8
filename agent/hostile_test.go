package agent_test

import (
	"archive/tar"
	"bufio"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/resource/resourcetest"
	"trued.dev/trued/modules"
)

const (
	bob    = 65534
	secret = "the secret of root"
	// bobsHome tells the test binary that it is to be Bob, and where he is at home.
	bobsHome = "TRUED_TEST_HOME_OF_BOB"
)

// A haunt is a host on which an ordinary user may write where trued does.
type haunt struct {
	*agent.Agent
	t               *testing.T
	source, root    string
	home, forbidden []string
	planted         int
}

// whatIsDeclared is every kind of path that is written, in directories that are
// Bob's: his own, and those of units and kernel parameters as if they were. Each
// state changes content, owner or mode of the one before.
func whatIsDeclared(n int) string {
	owner, mode := "root", "0755"
	if n%2 == 0 {
		owner, mode = "bob", "0750"
	}
	return fmt.Sprintf(`
- directory: /home/bob/www
  owner: %[2]s
  mode: "%[3]s"
- {file: /home/bob/www/x, content: "%[1]d", owner: bob, mode: "0644"}
- {file: /home/bob/www/given, owner: bob, mode: "0644"}
- {file: /home/bob/www/followed, content: "%[1]d", follow: true, owner: %[2]s}
- {file: /home/bob/www/forced, content: "%[1]d", force: true}
- {file: /home/bob/www/once, content: "%[1]d", create_only: true, owner: %[2]s}
- {file: /home/bob/deep/er/y, content: "%[1]d", parents: true}
- {file: /home/bob/www/asked, content: "%[1]d", validate: "grep -q . {path}", timeout: 2s}
- {file: /home/bob/www/tried, content: "%[1]d", validate: "false"}
- {file: /home/bob/www/gone, state: absent}
- {link: /home/bob/www/l, target: x%[1]d, force: true, owner: %[2]s}
- {link: /home/bob/l, target: x%[1]d, owner: bob}
- directory: /home/bob/tree
  source: files/tree
  purge: true
  owner: %[2]s
  file_mode: "0644"
- {archive: /home/bob/arch, source: files/arch.tar, owner: %[2]s, force: true}
- {directory: /home/bob/all, recurse: true, owner: %[2]s, mode: "%[3]s"}
- {directory: /home/bob/none, state: absent, force: true}
- {directory: /home/bob/instead, force: true}
- unit: haunted.service
  content: "[Service]\nExecStart=/bin/true %[1]d\n"
  drop_ins: {"10-a.conf": "[Service]\nNice=%[4]d\n"}
- {sysctl: vm.haunted, value: %[1]d}
`, n, owner, mode, n%10)
}

func newHaunt(t *testing.T) *haunt {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	dir := t.TempDir()
	for at := dir; strings.HasPrefix(at, os.TempDir()+"/"); at = filepath.Dir(at) {
		must(t, os.Chmod(at, 0o755)) // Bob must get there
	}
	h := &haunt{t: t, source: filepath.Join(dir, "source"), root: filepath.Join(dir, "root")}
	put(t, h.root+"/etc/passwd", "root:x:0:0::/:/bin/sh\nbob:x:65534:65534::/home/bob:/bin/sh\n")
	put(t, h.root+"/etc/group", "root:x:0:\nbob:x:65534:\n")
	// One that he gets at by a link which is resolved below the root, and one
	// behind a link that is not.
	for _, at := range []string{h.root + "/srv/roots", dir + "/outside"} {
		put(t, at+"/secret", secret)
		put(t, at+"/x", "root's own")
		put(t, at+"/www/x", "root's own")
		put(t, at+"/tree/sub/x", "root's own")
		put(t, at+"/haunted.service", "root's own")
		must(t, os.Chmod(at+"/x", 0o755|fs.ModeSetuid))
		h.forbidden = append(h.forbidden, at)
	}
	for _, below := range []string{
		"/home/stash", "/home/bob", "/home/bob/www", "/home/bob/tree", "/home/bob/arch", "/home/bob/all", "/home/bob/all/sub", "/home/bob/none",
		"/etc/systemd/system", "/etc/sysctl.d",
	} {
		at := h.root + below
		must(t, os.MkdirAll(at, 0o755))
		must(t, os.Chown(at, bob, bob))
		h.home = append(h.home, at)
	}
	put(t, h.source+"/groups/web/group.yaml", "allow_empty: true\nprune_limit: 1000\n")
	c, err := agent.LoadConfig(filepath.Join(h.root, "none"), true)
	must(t, err)
	must(t, c.UseSource(h.source, "groups/web"))
	h.Agent, err = agent.New(c, agent.Options{
		Root: h.root, Version: "1.0.0", Log: slog.New(slog.DiscardHandler), Modules: modules.All,
		ExitCode: func(agent.Verdict) int { return 0 },
	})
	must(t, err)
	t.Cleanup(h.Close)
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// round brings about a state, or nothing: then all leaves and what was there
// before comes back.
func (h *haunt) round(n int) {
	h.t.Helper()
	manifest := filepath.Join(h.source, "groups/web/all.yaml")
	put(h.t, h.source+"/groups/web/files/tree/a", fmt.Sprint(n))
	put(h.t, h.source+"/groups/web/files/tree/sub/x", fmt.Sprint(n))
	put(h.t, h.source+"/groups/web/files/arch.tar", archive(h.t, n))
	if n%4 == 3 {
		must(h.t, os.Remove(manifest))
	} else {
		put(h.t, manifest, whatIsDeclared(n))
	}
	h.plant()
	// What fails is what Bob made fail; what hangs is our fault.
	ctx, cancel := context.WithTimeout(h.t.Context(), 5*time.Minute)
	defer cancel()
	_, err := h.Run(ctx, ctx, agent.Request{Trigger: "sync", Fetch: true, AcceptPrune: true, Hasty: true})
	if ctx.Err() != nil || err != nil {
		h.t.Fatalf("round %d: %v", n, err)
	}
}

// archive returns a tar with two files, of which one has another name each time.
func archive(t *testing.T, n int) string {
	t.Helper()
	var b strings.Builder
	w := tar.NewWriter(&b)
	for _, name := range []string{"x", fmt.Sprintf("sub/x%d", n%2)} {
		content := fmt.Sprint(n)
		must(t, w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}))
		_, err := io.WriteString(w, content)
		must(t, err)
	}
	must(t, w.Close())
	return b.String()
}

// plant gives Bob what he could not make himself, and could find on a host: other
// names of root's files, as where fs.protected_hardlinks is off, and a device.
func (h *haunt) plant() {
	for _, at := range h.forbidden {
		for _, name := range []string{"secret", "x", "tree/sub/x"} {
			h.planted++
			_ = os.Link(filepath.Join(at, name), fmt.Sprintf("%s/home/stash/%d", h.root, h.planted))
		}
	}
	_ = unix.Mknod(h.root+"/home/stash/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
}

func (h *haunt) fingerprint() string {
	h.t.Helper()
	var all []string
	for _, at := range append(h.forbidden, h.root+"/etc/passwd", h.root+"/etc/group") {
		all = append(all, resourcetest.Fingerprint(h.t, at, false)...)
	}
	return strings.Join(all, "\n")
}

// TestAnOrdinaryUserWinsNoRace lets a user change all that can be changed in
// directories where every kind writes, while it writes: nothing of root's is
// changed, given away, or made readable by it.
func TestAnOrdinaryUserWinsNoRace(t *testing.T) {
	h := newHaunt(t)
	rounds := 40
	if os.Getenv("TORTURE") == "full" {
		rounds = 10_000
	}
	before := h.fingerprint()
	loot := h.startBob()
	done := 0
	for n := range rounds {
		h.round(n)
		done++
		if t.Failed() || n%50 == 49 && h.fingerprint() != before {
			break
		}
	}
	for _, what := range loot() {
		t.Errorf("an ordinary user came by %s", what)
	}
	if d := cmp.Diff(strings.Split(before, "\n"), strings.Split(h.fingerprint(), "\n")); d != "" {
		t.Errorf("what is root's has changed:\n%s", d)
	}
	// The rest of the host is nobody else's.
	must(t, filepath.WalkDir(h.root, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		for _, home := range h.home {
			if name == home {
				return fs.SkipDir
			}
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil || st.Uid != 0 {
			t.Errorf("%s belongs to %d, error %v: %s", name, st.Uid, err, info.Mode())
		}
		return nil
	}))
	t.Logf("%d rounds", done)
}

// startBob starts a process that is an ordinary user's. What is returned ends
// it, and tells what it came by.
func (h *haunt) startBob() func() []string {
	h.t.Helper()
	self, err := os.Executable()
	must(h.t, err)
	cmd := exec.Command(self, "-test.run=^TestBob$")
	cmd.Env = append(os.Environ(), bobsHome+"="+strings.Join(append(h.home, h.forbidden...), ":"))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(h.t, err)
	out, err := cmd.StdoutPipe()
	must(h.t, err)
	must(h.t, cmd.Start())
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "at home" {
		h.t.Fatalf("Bob says %q", lines.Text())
	}
	var once []string
	stop := func() []string {
		_ = in.Close()
		moves := ""
		for lines.Scan() {
			switch what, is := strings.CutPrefix(lines.Text(), "loot "); {
			case is:
				once = append(once, what)
			case strings.HasPrefix(lines.Text(), "moves "):
				moves = lines.Text()
			}
		}
		_ = cmd.Wait()
		if n, _ := strconv.Atoi(strings.TrimPrefix(moves, "moves ")); n < 1000 {
			h.t.Errorf("Bob made no more than %d %s", n, moves)
		}
		h.t.Log(moves)
		return once
	}
	return stop
}

// TestBob is no test but the process of an ordinary user: it turns everything
// that is his, and tries to read what is not, until its input ends.
func TestBob(t *testing.T) {
	home := os.Getenv(bobsHome)
	if home == "" {
		return
	}
	must(t, unix.Setgroups(nil))
	must(t, unix.Setresgid(bob, bob, bob))
	must(t, unix.Setresuid(bob, bob, bob))
	dirs := strings.Split(home, ":")
	b := &intruder{dirs: dirs[1 : len(dirs)-2], stash: dirs[0], targets: dirs[len(dirs)-2:], told: map[string]bool{}}
	// A link to what is below the root names it as the host sees it.
	b.targets = append(b.targets, "/srv/roots", "../../../srv/roots", "../../srv/roots")
	ended := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(ended) }()
	fmt.Println("at home")
	moves := 0
	for ; ; moves++ {
		select {
		case <-ended:
			b.search()
			fmt.Println("moves", moves)
			return
		default:
		}
		b.move()
		if moves%20 == 0 {
			b.search()
		}
	}
}

// An intruder is Bob at work.
type intruder struct {
	dirs, targets []string
	stash         string
	told          map[string]bool
}

// pick returns a path that trued writes, or one beside it that it just made.
func (b *intruder) pick() string {
	dir := b.dirs[rand.IntN(len(b.dirs))]
	names := []string{"www", "www/x", "www/secret", "tree", "tree/sub", "tree/sub/x", "all", "all/sub", "deep", "deep/er", "deep/er/y", "none", "instead", "l", "arch", "arch/x", "arch/sub", "arch/sub/x0"}
	switch entries, _ := os.ReadDir(dir); {
	case dir == b.dirs[0] && rand.IntN(3) > 0:
		return filepath.Join(dir, names[rand.IntN(len(names))])
	case len(entries) > 0 && rand.IntN(3) > 0:
		return filepath.Join(dir, entries[rand.IntN(len(entries))].Name())
	}
	names = []string{"x", "given", "followed", "forced", "once", "asked", "tried", "gone", "l", "a", "sub", "haunted.service", "haunted.service.d", "haunted.service.d/10-a.conf"}
	return filepath.Join(dir, names[rand.IntN(len(names))])
}

func (b *intruder) target() string { return b.targets[rand.IntN(len(b.targets))] }

// move makes something else of a path.
func (b *intruder) move() {
	at := b.pick()
	away := func() {
		if unix.Unlink(at) != nil && unix.Rmdir(at) != nil {
			_ = unix.Rename(at, fmt.Sprintf("%s/aside-%d", b.dirs[0], rand.IntN(4)))
		}
	}
	switch rand.IntN(10) {
	case 0, 1: // the directory itself
		away()
		_ = unix.Symlink(b.target(), at)
	case 2: // what is in it
		away()
		_ = unix.Symlink(b.target()+"/"+[]string{"x", "secret", "www", "tree", "tree/sub"}[rand.IntN(5)], at)
	case 3:
		away()
		_ = unix.Mkdir(at, 0o777)
	case 4:
		away()
		_ = unix.Mkfifo(at, 0o666)
	case 5:
		away()
		if len(at) < 100 {
			if l, err := net.Listen("unix", at); err == nil {
				l.(*net.UnixListener).SetUnlinkOnClose(false)
				_ = l.Close()
			}
		}
	case 6: // another name of a file of root's, or a device
		if names, _ := os.ReadDir(b.stash); len(names) > 0 {
			away()
			_ = unix.Rename(b.stash+"/"+names[rand.IntN(len(names))].Name(), at)
		}
	case 7: // one thing for another
		_ = unix.Renameat2(unix.AT_FDCWD, at, unix.AT_FDCWD, b.pick(), unix.RENAME_EXCHANGE)
	case 8:
		_ = unix.Rename(at, b.pick())
	case 9: // back
		away()
		_ = unix.Rename(fmt.Sprintf("%s/aside-%d", b.dirs[0], rand.IntN(4)), at)
	}
}

// search tells of what Bob can read and should not.
func (b *intruder) search() {
	for _, dir := range append(b.dirs, b.stash) {
		_ = filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
			if err == nil && !b.told[name] && b.reads(name) {
				b.told[name] = true
				fmt.Println("loot", name)
			}
			return nil
		})
	}
}

func (b *intruder) reads(name string) bool {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	buf := make([]byte, 64)
	n, _ := unix.Read(fd, buf)
	return n > 0 && strings.Contains(string(buf[:n]), secret)
}
