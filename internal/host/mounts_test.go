package host

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestATableOfMountsThatMovedIsReadAgain(t *testing.T) {
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	id, err := mountOf(int(dir.Fd()), "")
	if err != nil {
		t.Fatal(err)
	}
	var table mounts
	want, err := table.names(dir.Name(), id)
	if err != nil || want[0] != dir.Name() {
		t.Fatalf("%q is known as %q: %v", dir.Name(), want, err)
	}
	// As it was read before a directory above the mount got another name.
	moved := table.byID[id]
	moved.at = "/some/where/else"
	table.byID[id] = moved
	if got, err := table.names(dir.Name(), id); err != nil || !slices.Equal(got, want) {
		t.Errorf("it is known as %q, want %q: %v", got, want, err)
	}
	if _, err := table.names(dir.Name(), 1<<30); err == nil {
		t.Error("a mount that there is not has names")
	}
}

func TestAPlaceIsKnownByEveryMountThatShowsIt(t *testing.T) {
	list, err := parseMounts("21 1 8:1 / / rw - ext4 /dev/sda1 rw\n" +
		"22 21 8:1 /data/app /srv/app rw - ext4 /dev/sda1 rw\n" +
		"23 21 8:1 /etc /srv/my\\040etc rw - ext4 /dev/sda1 rw\n" +
		"24 21 0:5 / /proc rw - proc proc rw\n")
	if err != nil {
		t.Fatal(err)
	}
	table := mounts{}
	table.index(list)
	for _, c := range []struct {
		at   string
		id   int
		want []string
	}{
		{"/srv/app/a", 22, []string{"/srv/app/a", "/data/app/a"}},
		{"/etc/passwd", 21, []string{"/etc/passwd", "/srv/my etc/passwd"}},
		{"/etc", 21, []string{"/etc", "/srv/my etc"}},
		{"/proc/x", 24, []string{"/proc/x"}},
		{"/home", 21, []string{"/home"}},
	} {
		if got := table.seen(c.at, table.byID[c.id]); !slices.Equal(got, c.want) {
			t.Errorf("%s on %d is known as %q, want %q", c.at, c.id, got, c.want)
		}
	}
	if list, err := parseMounts("21 1 8:1 / /srv/a\u3000b rw - ext4 /dev/sda1 rw\n"); err != nil || list[0].at != "/srv/a\u3000b" {
		t.Errorf("a wide blank in a name: %v, %v", list, err)
	}
	if _, err := parseMounts("21 1 8:1 /\n"); err == nil {
		t.Error("a line that was cut off is read")
	}
}

func TestASurveySeesWhatIsSeenOneByOne(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"srv/app/d", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"srv/app/l": "/etc", "srv/app/gone": "/etc/gone", "srv/app/loop": "loop", "srv/app/up": "../.."} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "srv/file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h := New(root, Options{})
	s := h.Survey()
	for _, name := range []string{
		"/", "/srv", "/srv/app/d/a", "/srv/app/d/b", "/srv/app/l", "/srv/app/l/a", "/srv/app/l/b/c", "/srv/app/gone/a", "/srv/app/gone/b/c",
		"/srv/app/loop/a", "/srv/app/up/etc/a", "/srv/new/a", "/srv/new/b/c", "/srv/file/a", "relative",
	} {
		for _, follow := range []bool{false, true} {
			want, wantErr := h.KnownAs(name, follow)
			got, err := s.KnownAs(name, follow)
			if !slices.Equal(got, want) || (err == nil) != (wantErr == nil) {
				t.Errorf("%s (followed: %v) is known as %q, %v; want %q, %v", name, follow, got, err, want, wantErr)
			}
		}
	}
}

func TestASurveySeesMounts(t *testing.T) {
	h := New("/", Options{})
	s := h.Survey()
	for _, name := range []string{"/proc", "/proc/self", "/sys/kernel", "/dev/shm/x", "/etc/hostname", "/etc/resolv.conf", "/tmp/x"} {
		want, wantErr := h.KnownAs(name, false)
		if got, err := s.KnownAs(name, false); !slices.Equal(got, want) || (err == nil) != (wantErr == nil) {
			t.Errorf("%s is known as %q, %v; want %q, %v", name, got, err, want, wantErr)
		}
	}
}
