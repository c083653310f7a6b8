package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/resource"
)

// scratch returns a host below a new directory, with a backup store and a cache
// beside it.
func scratch(t *testing.T) *Host {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	mkdirAll(t, root)
	return New(root, Options{
		Backups: OpenBackups(filepath.Join(dir, "backups")),
		Digests: OpenDigests(filepath.Join(dir, "digests")),
	})
}

func mkdirAll(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, h *Host, name, content string) {
	t.Helper()
	mkdirAll(t, filepath.Dir(h.Path(name)))
	if err := os.WriteFile(h.Path(name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, h *Host, target, name string) {
	t.Helper()
	mkdirAll(t, filepath.Dir(h.Path(name)))
	if err := os.Symlink(target, h.Path(name)); err != nil {
		t.Fatal(err)
	}
}

func holds(t *testing.T, h *Host, name, want string) {
	t.Helper()
	got, err := os.ReadFile(h.Path(name))
	if err != nil || string(got) != want {
		t.Errorf("%s holds %q, error %v; want %q", name, got, err, want)
	}
}

func noTemporaries(t *testing.T, h *Host) {
	t.Helper()
	_ = filepath.WalkDir(h.Root(), func(name string, _ fs.DirEntry, _ error) error {
		if strings.HasPrefix(filepath.Base(name), TemporaryPrefix) {
			t.Errorf("temporary file %s is left", name)
		}
		return nil
	})
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

func text(s string) *resource.Content { return resource.Bytes([]byte(s)) }

func TestLinksOfRootAreFollowedBelowTheRoot(t *testing.T) {
	for _, c := range []struct{ name, target, link, path, real string }{
		{"relative", "usr/lib", "/lib", "/lib/x", "/usr/lib/x"},
		{"absolute", "/run", "/var/run", "/var/run/x", "/run/x"},
		{"absolute and with dots", "/../../run/./", "/var/run", "/var/run/x", "/run/x"},
		{"up and over", "../../run", "/var/a/b", "/var/a/b/x", "/run/x"},
		{"up beyond the root", "../../../../run", "/var/run", "/var/run/x", "/run/x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := scratch(t)
			mkdirAll(t, filepath.Dir(h.Path(c.real)))
			link(t, h, c.target, c.link)
			if err := h.WriteFile(t.Context(), c.path, FileSpec{Content: text("x")}); err != nil {
				t.Fatal(err)
			}
			holds(t, h, c.real, "x")
		})
	}
}

func TestALinkAtTheEndIsFollowedOnlyWhenAsked(t *testing.T) {
	h := scratch(t)
	put(t, h, "/real/x", "old")
	link(t, h, "/real/x", "/etc/x")
	var wrong *TypeError
	if err := h.WriteFile(t.Context(), "/etc/x", FileSpec{Content: text("new")}); !errors.As(err, &wrong) {
		t.Errorf("writing to a link returned %v", err)
	}
	if err := h.WriteFile(t.Context(), "/etc/x", FileSpec{Content: text("new"), Follow: true}); err != nil {
		t.Fatal(err)
	}
	holds(t, h, "/real/x", "new")
	if target, err := os.Readlink(h.Path("/etc/x")); err != nil || target != "/real/x" {
		t.Errorf("the link became %q, error %v", target, err)
	}
}

func TestALoopOfLinksIsAnError(t *testing.T) {
	h := scratch(t)
	link(t, h, "b", "/a")
	link(t, h, "a", "/b")
	_, err := h.Lstat("/a/x")
	if !errors.Is(err, unix.ELOOP) {
		t.Errorf("a loop of links returned %v", err)
	}
}

func TestPathsThatAreNotCleanAreRefused(t *testing.T) {
	h := scratch(t)
	for _, name := range []string{"", "etc/x", "/etc/../x", "/etc//x", "/etc/./x", "/etc/", "/a\nb", "/a\x00b", "/" + strings.Repeat("x/", 4000) + "x"} {
		if err := h.WriteFile(t.Context(), name, FileSpec{Content: text("x")}); err == nil {
			t.Errorf("path %.20q was taken", name)
		}
	}
}

func TestAMissingParentSaysWhatToDo(t *testing.T) {
	h := scratch(t)
	err := h.WriteFile(t.Context(), "/a/b/c", FileSpec{Content: text("x")})
	var missing *MissingParentError
	if !errors.As(err, &missing) || missing.Parent != "/a" || !strings.Contains(err.Error(), "parents: true") {
		t.Errorf("a missing parent returned %v", err)
	}
	if err := h.WriteFile(t.Context(), "/a/b/c", FileSpec{Content: text("x"), Parents: true}); err != nil {
		t.Fatal(err)
	}
	holds(t, h, "/a/b/c", "x")
}

func TestWhichParentsAreMissingIsSaidByThePathsOwnNames(t *testing.T) {
	h := scratch(t)
	mkdirAll(t, h.Path("/srv/there"))
	link(t, h, "/srv", "/to")
	link(t, h, "/srv/gone", "/nowhere")
	for name, want := range map[string][]string{
		"/srv/there/f":   nil,
		"/srv/there/a/f": {"/srv/there/a"},
		"/srv/a/b/c/f":   {"/srv/a", "/srv/a/b", "/srv/a/b/c"},
		"/a/f":           {"/a"},
		"/to/there/f":    nil,
		"/to/a/b/f":      {"/to/a", "/to/a/b"},
		"/nowhere/a/f":   {"/nowhere", "/nowhere/a"},
	} {
		prior, err := h.NotePath(name)
		if err != nil || !slices.Equal(prior.Made, want) {
			t.Errorf("for %s are made %q, want %q; error %v", name, prior.Made, want, err)
		}
	}
}

func TestModesAreSetWhateverTheUmask(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	h := scratch(t)
	for _, mode := range []uint32{0o644, 0o600, 0o4755, 0o2750, 0o1777} {
		name := fmt.Sprintf("/f%o", mode)
		if err := h.WriteFile(t.Context(), name, FileSpec{Content: text("x"), Mode: resource.NewMode(mode)}); err != nil {
			t.Fatal(err)
		}
		if i, err := h.Lstat(name); err != nil || i.Mode().Bits() != mode {
			t.Errorf("mode is %s, error %v; want %#o", i.Mode(), err, mode)
		}
	}
}

func TestWhatSilenceMeansForNewFiles(t *testing.T) {
	executable := text("x")
	executable.Executable = true
	for _, c := range []struct {
		name string
		spec FileSpec
		want string
	}{
		{"plain", FileSpec{Content: text("x")}, "0644"},
		{"executable in Git", FileSpec{Content: executable}, "0755"},
		{"sensitive", FileSpec{Content: text("x"), Sensitive: true}, "0600"},
	} {
		h := scratch(t)
		if err := h.WriteFile(t.Context(), "/x", c.spec); err != nil {
			t.Fatal(err)
		}
		if i, err := h.Lstat("/x"); err != nil || i.Mode().String() != c.want {
			t.Errorf("%s: mode is %s, error %v; want %s", c.name, i.Mode(), err, c.want)
		}
	}
}

func TestReplacedContentKeepsAttributes(t *testing.T) {
	needRoot(t)
	h := scratch(t)
	put(t, h, "/x", "old")
	for _, err := range []error{
		os.Chown(h.Path("/x"), 7, 8),
		unix.Chmod(h.Path("/x"), 0o4751),
		unix.Setxattr(h.Path("/x"), "user.note", []byte("kept"), 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := h.WriteFile(t.Context(), "/x", FileSpec{Content: text("new")}); err != nil {
		t.Fatal(err)
	}
	holds(t, h, "/x", "new")
	i, err := h.Lstat("/x")
	if err != nil || i.UID() != 7 || i.GID() != 8 || i.Mode().Bits() != 0o4751 {
		t.Errorf("owner %d:%d, mode %s, error %v", i.UID(), i.GID(), i.Mode(), err)
	}
	buf := make([]byte, 16)
	n, err := unix.Getxattr(h.Path("/x"), "user.note", buf)
	if err != nil || string(buf[:n]) != "kept" {
		t.Errorf("attribute is %q, error %v", buf[:max(n, 0)], err)
	}
}

func TestModeIsMendedInPlaceUnlessThereIsAnotherName(t *testing.T) {
	h := scratch(t)
	put(t, h, "/one", "1")
	put(t, h, "/two", "2")
	if err := os.Link(h.Path("/two"), h.Path("/other")); err != nil {
		t.Fatal(err)
	}
	for name, inPlace := range map[string]bool{"/one": true, "/two": false} {
		before, _ := h.Lstat(name)
		if err := h.WriteFile(t.Context(), name, FileSpec{Mode: resource.NewMode(0o600)}); err != nil {
			t.Fatal(err)
		}
		after, _ := h.Lstat(name)
		if after.Mode().Bits() != 0o600 || before.SameFile(after) != inPlace {
			t.Errorf("%s: mode %s, same inode %v, want %v", name, after.Mode(), before.SameFile(after), inPlace)
		}
	}
	holds(t, h, "/two", "2")
	if other, _ := h.Lstat("/other"); other.Mode().Bits() != 0o644 {
		t.Errorf("the other name has mode %s now", other.Mode())
	}
}

func TestValidateDecides(t *testing.T) {
	for _, c := range []struct {
		name, validate, had string
		ok                  bool
	}{
		{"accepts the new file", "grep -q new {path}", "old", true},
		{"refuses the new file", "grep -q other {path}", "old", false},
		{"accepts in place", "true", "old", true},
		{"refuses in place", "false", "old", false},
		{"refuses in place what was not there", "false", "", false},
		{"accepts in place what was not there", "true", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := scratch(t)
			if c.had != "" {
				put(t, h, "/x", c.had)
			}
			before, _ := h.Lstat("/x")
			err := h.WriteFile(t.Context(), "/x", FileSpec{Content: text("new"), Validate: c.validate})
			if (err == nil) != c.ok {
				t.Fatalf("returned %v", err)
			}
			noTemporaries(t, h)
			if c.ok {
				holds(t, h, "/x", "new")
				return
			}
			if after, _ := h.Lstat("/x"); !after.SameFile(before) {
				t.Error("the old file is not there any more")
			}
		})
	}
}

func TestValidateShowsOutputUnlessSensitive(t *testing.T) {
	h := scratch(t)
	spec := FileSpec{Content: text("the-value"), Validate: "sh -c 'cat {path}; exit 1'"}
	if err := h.WriteFile(t.Context(), "/x", spec); err == nil || !strings.Contains(err.Error(), "the-value") {
		t.Errorf("returned %v", err)
	}
	spec.Sensitive = true
	if err := h.WriteFile(t.Context(), "/x", spec); err == nil || strings.Contains(err.Error(), "the-value") {
		t.Errorf("returned %v", err)
	}
}

func TestAbortAndCancelLeaveNothing(t *testing.T) {
	h := scratch(t)
	put(t, h, "/x", "old")
	s, err := h.Stage(t.Context(), "/x", FileSpec{Content: text("new")})
	if err != nil {
		t.Fatal(err)
	}
	s.Abort()
	s.Abort() // does no harm
	s, err = h.Stage(t.Context(), "/x", FileSpec{Content: text("new")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Commit(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit returned %v", err)
	}
	if _, err := h.Stage(ctx, "/x", FileSpec{Content: text("new")}); !errors.Is(err, context.Canceled) {
		t.Errorf("Stage returned %v", err)
	}
	holds(t, h, "/x", "old")
	noTemporaries(t, h)
}

func TestWhatWasReplacedComesBack(t *testing.T) {
	h := scratch(t)
	put(t, h, "/x", "old")
	link(t, h, "nowhere", "/l")
	for _, name := range []string{"/x", "/l", "/new", "/deep/er/new"} {
		prior, err := h.NotePath(name)
		if err != nil {
			t.Fatal(err)
		}
		noted := resource.Prior{}
		if err := prior.Note(noted, name); err != nil {
			t.Fatal(err)
		}
		err = h.WriteFile(t.Context(), name, FileSpec{Content: text("new"), Mode: resource.NewMode(0o600), Backup: true, Force: true, Parents: true})
		if err != nil {
			t.Fatal(err)
		}
		prior, ok, err := NotedPath(noted, name)
		if !ok || err != nil {
			t.Fatalf("nothing was noted about %s: %v", name, err)
		}
		if err := h.RestorePath(t.Context(), name, prior); err != nil {
			t.Fatal(err)
		}
		if diff, err := h.CompareRestore(t.Context(), name, prior); err != nil || len(diff) > 0 {
			t.Errorf("%s still differs: %v, error %v", name, diff, err)
		}
	}
	holds(t, h, "/x", "old")
	if target, err := os.Readlink(h.Path("/l")); err != nil || target != "nowhere" {
		t.Errorf("the link is %q, error %v", target, err)
	}
	if _, err := os.Lstat(h.Path("/deep")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the parents that were made are still there: %v", err)
	}
}

func TestAFileOfAPackageStays(t *testing.T) {
	h := scratch(t)
	put(t, h, "/var/lib/dpkg/info/tiny.list", "/.\n/etc\n/etc/tiny.conf\n/lib/tiny\n")
	for name, stays := range map[string]bool{"/etc/tiny.conf": true, "/usr/lib/tiny": true, "/etc/other": false} {
		put(t, h, name, "new")
		diff, note, err := h.CompareDeparture(t.Context(), name, PathPrior{}, map[string]bool{})
		if err != nil || (len(diff) == 0) != stays || (note != "") != stays {
			t.Errorf("%s: difference %v, note %q, error %v", name, diff, note, err)
		}
		discard := PathPrior{Leaving: Leaving{Discard: true}}
		if diff, _, err := h.CompareDeparture(t.Context(), name, discard, map[string]bool{}); err != nil || len(diff) == 0 {
			t.Errorf("%s with restore: false: difference %v, error %v", name, diff, err)
		}
	}
}

func TestWhatWasNotKeptStays(t *testing.T) {
	h := scratch(t)
	put(t, h, "/x", "old")
	prior, err := h.NotePath("/x")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.WriteFile(t.Context(), "/x", FileSpec{Content: text("new")}); err != nil {
		t.Fatal(err)
	}
	diff, note, err := h.CompareDeparture(t.Context(), "/x", prior, map[string]bool{})
	if err != nil || len(diff) > 0 || note == "" {
		t.Errorf("difference %v, note %q, error %v", diff, note, err)
	}
}

func TestAFileThatWasMadeThroughALinkGoesAndTheLinkStays(t *testing.T) {
	h := scratch(t)
	mkdirAll(t, h.Path("/srv"))
	link(t, h, "/srv/x", "/x")
	spec := FileSpec{Content: text("new"), Follow: true}
	found, err := h.CompareFile(t.Context(), "/x", spec)
	if err != nil || !found.Creates {
		t.Fatalf("found %+v, error %v", found, err)
	}
	if err := h.WriteFile(t.Context(), "/x", spec); err != nil {
		t.Fatal(err)
	}
	found.Prior.Leaving.Follow = true
	if err := h.RestorePath(t.Context(), "/x", found.Prior); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(h.Path("/srv/x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	if target, err := os.Readlink(h.Path("/x")); err != nil || target != "/srv/x" {
		t.Errorf("the link is %q, error %v", target, err)
	}
}

// acl is an access control list as the kernel keeps it: owner, one more user,
// group, mask, others.
func acl(user, mask byte) []byte {
	list := []byte{2, 0, 0, 0}
	entry := func(tag, perm byte, id uint32) {
		list = append(list, tag, 0, perm, 0, byte(id), byte(id>>8), byte(id>>16), byte(id>>24))
	}
	const none = 1<<32 - 1
	entry(0x01, 6, none)
	entry(0x02, user, 4242)
	entry(0x04, 4, none)
	entry(0x10, mask, none)
	entry(0x20, 0, none)
	return list
}

func TestAccessListsAreKeptAndNotCaught(t *testing.T) {
	needRoot(t)
	h := scratch(t)
	put(t, h, "/with", "old")
	put(t, h, "/without", "old")
	if err := unix.Setxattr(h.Path("/with"), "system.posix_acl_access", acl(6, 6), 0); err != nil {
		t.Skipf("needs a file system with access control lists: %v", err)
	}
	if err := unix.Setxattr(h.Path("/"), "system.posix_acl_default", acl(7, 7), 0); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"/with": true, "/without": false} {
		before, _ := h.Lstat(name)
		if err := h.WriteFile(t.Context(), name, FileSpec{Content: text("new")}); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 256)
		n, err := unix.Getxattr(h.Path(name), "system.posix_acl_access", buf)
		if has := err == nil; has != want || has && string(buf[:n]) != string(acl(6, 6)) {
			t.Errorf("%s: list %v, error %v", name, buf[:max(n, 0)], err)
		}
		if after, _ := h.Lstat(name); after.Mode() != before.Mode() {
			t.Errorf("%s: mode was %s and is %s", name, before.Mode(), after.Mode())
		}
	}
}
