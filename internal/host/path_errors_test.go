package host

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/resource"
)

// mounted mounts a small tmpfs on a directory of the host.
func mounted(t *testing.T, h *Host, name string) string {
	t.Helper()
	needRoot(t)
	at := h.Path(name)
	mkdirAll(t, at)
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("needs to mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	return at
}

func TestErrorsNameThePathAndTheReason(t *testing.T) {
	big := resource.Bytes(make([]byte, 256<<10))
	for name, c := range map[string]struct {
		make func(t *testing.T, h *Host)
		path string
		spec FileSpec
		want string
		is   error
	}{
		"a full file system": {
			make: func(t *testing.T, h *Host) { mounted(t, h, "/m") },
			path: "/m/x", spec: FileSpec{Content: big}, want: "no space is left", is: unix.ENOSPC,
		},
		"a read-only mount": {
			make: func(t *testing.T, h *Host) {
				at := mounted(t, h, "/m")
				if err := unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
					t.Fatal(err)
				}
			},
			path: "/m/x", spec: FileSpec{Content: text("x")}, want: "mounted read-only", is: unix.EROFS,
		},
		"a busy target": {
			make: func(t *testing.T, h *Host) {
				needRoot(t)
				put(t, h, "/x", "old")
				put(t, h, "/y", "other")
				if err := unix.Mount(h.Path("/y"), h.Path("/x"), "", unix.MS_BIND, ""); err != nil {
					t.Skipf("needs to mount: %v", err)
				}
				t.Cleanup(func() { _ = unix.Unmount(h.Path("/x"), unix.MNT_DETACH) })
			},
			path: "/x", spec: FileSpec{Content: text("x")}, want: "something is mounted on it", is: unix.EBUSY,
		},
		"an immutable file": {
			make: func(t *testing.T, h *Host) { put(t, h, "/x", "old"); setFlag(t, h.Path("/x"), immutable) },
			path: "/x", spec: FileSpec{Content: text("x")}, want: "it is immutable", is: unix.EPERM,
		},
		"an immutable file's mode": {
			make: func(t *testing.T, h *Host) { put(t, h, "/x", "old"); setFlag(t, h.Path("/x"), immutable) },
			path: "/x", spec: FileSpec{Mode: resource.NewMode(0o600)}, want: "it is immutable", is: unix.EPERM,
		},
		"an immutable directory": {
			make: func(t *testing.T, h *Host) { mkdirAll(t, h.Path("/d")); setFlag(t, h.Path("/d"), immutable) },
			path: "/d/x", spec: FileSpec{Content: text("x")}, want: "its directory is immutable",
		},
		"a directory": {
			make: func(t *testing.T, h *Host) { mkdirAll(t, h.Path("/x")) },
			path: "/x", spec: FileSpec{Content: text("x")}, want: "is a directory, not a file",
		},
		"a fifo": {
			make: func(t *testing.T, h *Host) { mknod(t, h, "/x", unix.S_IFIFO) },
			path: "/x", spec: FileSpec{Content: text("x"), Force: true, Follow: true}, want: "is a fifo, not a file",
		},
		"a socket": {
			make: func(t *testing.T, h *Host) { mknod(t, h, "/x", unix.S_IFSOCK) },
			path: "/x", spec: FileSpec{Content: text("x"), Force: true}, want: "is a socket, not a file",
		},
		"a device": {
			make: func(t *testing.T, h *Host) { needRoot(t); mknod(t, h, "/x", unix.S_IFCHR) },
			path: "/x", spec: FileSpec{Content: text("x"), Force: true}, want: "is a device, not a file",
		},
		"a link": {
			make: func(t *testing.T, h *Host) { link(t, h, "y", "/x") },
			path: "/x", spec: FileSpec{Content: text("x")}, want: "is a symbolic link, not a file",
		},
		"a file above it": {
			make: func(t *testing.T, h *Host) { put(t, h, "/f", "") },
			path: "/f/x", spec: FileSpec{Content: text("x")}, want: `"/f" is not a directory`,
		},
		"an unknown user": {
			path: "/x", spec: FileSpec{Content: text("x"), Owner: "nobody-here"}, want: `user "nobody-here" is unknown`,
		},
		"an unknown group": {
			path: "/x", spec: FileSpec{Content: text("x"), Group: "nobody-here"}, want: `group "nobody-here" is unknown`,
		},
		"a long name": {
			path: "/" + strings.Repeat("x", 300), spec: FileSpec{Content: text("x")}, want: "name is too long",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := scratch(t)
			if c.make != nil {
				c.make(t, h)
			}
			err := h.WriteFile(t.Context(), c.path, c.spec)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("returned %v, want one with %q", err, c.want)
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v is not %v", err, c.is)
			}
			noTemporaries(t, h)
		})
	}
}

// immutable is FS_IMMUTABLE_FL, which package unix leaves out.
const immutable = 0x10

func mknod(t *testing.T, h *Host, name string, kind uint32) {
	t.Helper()
	if err := unix.Mknod(h.Path(name), kind|0o600, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
}

func setFlag(t *testing.T, name string, flag int) {
	t.Helper()
	needRoot(t)
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flag); err != nil {
		t.Skipf("needs a file system with flags: %v", err)
	}
	t.Cleanup(func() {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0); err != nil {
			t.Error(err)
		}
	})
}

func TestNamesAreThoseOfTheTree(t *testing.T) {
	h := scratch(t)
	put(t, h, "/etc/passwd", "root:x:0:0::/:\nwww:x:4242:4242::/:\n")
	put(t, h, "/etc/group", "root:x:0:\nweb:x:4343:\n")
	if id, err := h.UserID("www"); err != nil || id != 4242 || h.UserName(4242) != "www" {
		t.Errorf("www is %d, error %v", id, err)
	}
	if id, err := h.GroupID("web"); err != nil || id != 4343 || h.GroupName(4343) != "web" {
		t.Errorf("web is %d, error %v", id, err)
	}
	put(t, h, "/etc/passwd", "later:x:7:7::/:\n")
	if id, err := h.UserID("later"); err != nil || id != 7 {
		t.Errorf("a user that was added is %d, error %v", id, err)
	}
	if id, err := h.UserID("12"); err != nil || id != 12 {
		t.Errorf("a number is %d, error %v", id, err)
	}
}

func TestTemporaryFilesOfAnEarlierRunAreSwept(t *testing.T) {
	h := scratch(t)
	put(t, h, "/etc/x", "kept")
	put(t, h, "/etc/.trued-mine", "not one of ours")
	put(t, h, "/etc/.trued-abcdefghij-other", "of a file that is not asked for")
	put(t, h, "/etc/"+temporaryName("x"), "left")
	n, err := h.Sweep([]string{"/etc/x", "/missing/y"})
	if n != 1 || err != nil {
		t.Errorf("swept %d, error %v", n, err)
	}
	names, err := filepath.Glob(h.Path("/etc/.trued-*"))
	if err != nil || len(names) != 2 {
		t.Errorf("there is %v, error %v", names, err)
	}
	holds(t, h, "/etc/x", "kept")
}

func TestDifferencesOfBinaryContentAreSizesAndDigests(t *testing.T) {
	for name, data := range map[string]string{"NUL": "a\x00b", "escapes": "a\x1b[2Jb", "not UTF-8": "a\xffb"} {
		c := DiffText("content", "/x", Text{Data: []byte("old\n"), Size: 4, SHA256: "1234"}, Text{Data: []byte(data), Size: int64(len(data))})
		if c.Unified != "" || !strings.Contains(c.Old, "4 bytes") {
			t.Errorf("%s: the change is %+v", name, c)
		}
	}
	c := DiffText("content", "/x", Text{Data: []byte("a\n"), Size: 2}, Text{Data: []byte("b"), Size: 1})
	if !strings.Contains(c.Unified, "-a\n+b\n\\ No newline at end of file") {
		t.Errorf("the difference is %q", c.Unified)
	}
}
