package host

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/resource"
)

func keep(t *testing.T, b *Backups, text string, what Replaced) string {
	t.Helper()
	sum, err := b.Keep(strings.NewReader(text), what)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func contentOf(t *testing.T, b *Backups, sum string) string {
	t.Helper()
	r, err := b.Open(sum)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func listOf(t *testing.T, b *Backups) []Backup {
	t.Helper()
	list, err := b.List()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestWhatIsReplacedIsNotedWithItsAttributesAndForWhom(t *testing.T) {
	b := OpenBackups(filepath.Join(t.TempDir(), "backups"))
	motd := resource.Address{Kind: "file", Name: "/etc/motd"}
	b.ForWhom(func(string) Credit { return Credit{Resource: motd, Revision: "abc", Run: "r1"} })
	sum := keep(t, b, "hello\n", Replaced{Path: "/etc/motd", Mode: resource.NewMode(0o644), UID: 3, GID: 4})
	list := listOf(t, b)
	if len(list) != 1 {
		t.Fatalf("%d notes, want 1", len(list))
	}
	n := list[0]
	if n.Path != "/etc/motd" || n.Size != 6 || n.Mode != resource.NewMode(0o644) || n.UID != 3 || n.GID != 4 ||
		n.Resource != motd || n.Revision != "abc" || n.Run != "r1" || n.Name != sum || n.ID == "" {
		t.Errorf("noted %+v", n)
	}
	r, err := b.Content(n)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if data, _ := io.ReadAll(r); string(data) != "hello\n" {
		t.Errorf("content %q", data)
	}
}

func TestASecretLiesInTheStoreNeitherInClearNorByItsDigest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "backups")
	b := OpenBackups(dir)
	secret := Replaced{Path: "/etc/key", Mode: resource.NewMode(0o600), Secret: true}
	sum := keep(t, b, "hunter2 hunter2", secret)
	keep(t, b, "hunter2 hunter2", secret)
	copies := 0
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		if bytes.Contains(data, []byte("hunter2")) || strings.Contains(name, sum) || bytes.Contains(data, []byte(sum)) {
			t.Errorf("%s gives the secret away", name)
		}
		if e.Name() != "index" {
			copies++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if copies != 1 {
		t.Errorf("%d copies of one content, want 1", copies)
	}
	again := OpenBackups(dir) // another process
	if !again.Has(sum) || contentOf(t, again, sum) != "hunter2 hunter2" {
		t.Error("what is needed of a secret is not given back")
	}
	if info, err := os.Stat(dir + ".key"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v, %v", info, err)
	}
}

func TestALineThatWasCutOffTakesNoOtherWithIt(t *testing.T) {
	b := OpenBackups(filepath.Join(t.TempDir(), "backups"))
	keep(t, b, "one", Replaced{Path: "/one"})
	data, err := os.ReadFile(b.index())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.index(), append(data, data[:len(data)/2]...), 0o600); err != nil {
		t.Fatal(err)
	}
	keep(t, b, "two", Replaced{Path: "/two"})
	var paths []string
	for _, n := range listOf(t, b) {
		paths = append(paths, n.Path)
	}
	if !slices.Equal(paths, []string{"/one", "/two"}) {
		t.Errorf("listed %q", paths)
	}
}

func TestTheStoreIsBoundedAndLosesNothingThatIsNeeded(t *testing.T) {
	plenty := Bounds{Size: 1 << 20, Age: time.Hour, Notes: 100}
	tests := map[string]struct {
		bounds      Bounds
		after       time.Duration
		stay, notes []string
	}{
		"nothing is over":         {bounds: plenty, stay: []string{"needed", "old", "new", "unspoken", "secret"}, notes: []string{"needed", "old", "new", "secret"}},
		"all are too old":         {bounds: plenty, after: 2 * time.Hour, stay: []string{"needed", "secret", "unspoken"}},
		"what nobody speaks of":   {bounds: Bounds{Size: 1 << 20, Age: 100 * time.Hour, Notes: 100}, after: 25 * time.Hour, stay: []string{"needed", "old", "new", "secret"}, notes: []string{"needed", "old", "new", "secret"}},
		"the oldest make room":    {bounds: Bounds{Size: 3, Age: time.Hour, Notes: 100}, stay: []string{"needed", "new", "secret", "unspoken"}, notes: []string{"needed", "new", "secret"}},
		"there are too many":      {bounds: Bounds{Size: 1 << 20, Age: time.Hour, Notes: 1}, stay: []string{"needed", "secret", "unspoken"}, notes: []string{"secret"}},
		"nothing but what is due": {bounds: Bounds{}, after: 25 * time.Hour, stay: []string{"needed", "secret"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := OpenBackups(filepath.Join(t.TempDir(), "backups"))
			sums := map[string]string{}
			for _, text := range []string{"needed", "old", "new"} {
				sums[text] = keep(t, b, text, Replaced{Path: "/etc/" + text})
			}
			sums["secret"] = keep(t, b, "secret", Replaced{Path: "/etc/secret", Secret: true})
			sums["unspoken"] = keep(t, b, "unspoken", Replaced{})
			needed := map[string]bool{sums["needed"]: true, sums["secret"]: true}
			if err := b.Bound(time.Now().Add(test.after), test.bounds, needed); err != nil {
				t.Fatal(err)
			}
			for text, sum := range sums {
				if want := slices.Contains(test.stay, text); b.Has(sum) != want {
					t.Errorf("%q is kept: %t, want %t", text, !want, want)
				}
			}
			var notes []string
			for _, n := range listOf(t, b) {
				notes = append(notes, strings.TrimPrefix(n.Path, "/etc/"))
			}
			if !slices.Equal(notes, test.notes) {
				t.Errorf("notes of %q, want %q", notes, test.notes)
			}
		})
	}
}

func TestOneContentOfAFileIsListedOnce(t *testing.T) {
	b := OpenBackups(filepath.Join(t.TempDir(), "backups"))
	for range 3 {
		keep(t, b, "one", Replaced{Path: "/etc/motd"})
		keep(t, b, "two", Replaced{Path: "/etc/motd"})
	}
	if err := b.Bound(time.Now(), Bounds{Size: 100, Age: time.Hour, Notes: 100}, nil); err != nil {
		t.Fatal(err)
	}
	if list := listOf(t, b); len(list) != 2 || !list[0].Time.Before(list[1].Time) {
		t.Errorf("listed %+v", list)
	}
}

// What was replaced comes back with its list of access and what users had set, also
// where there is a file without; of a secret nothing that users wrote is noted.
func TestACopyComesBackWithItsExtendedAttributes(t *testing.T) {
	for name, mode := range map[string]uint32{"public": 0o644, "secret": 0o600} {
		t.Run(name, func(t *testing.T) {
			root, store := t.TempDir(), OpenBackups(filepath.Join(t.TempDir(), "backups"))
			h := New(root, Options{Backups: store})
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			attr := func() string {
				buf := make([]byte, 64)
				n, err := unix.Getxattr(h.Path("/x"), "user.note", buf)
				if errors.Is(err, unix.ENODATA) {
					return "none"
				}
				must(err)
				return string(buf[:n])
			}
			must(os.WriteFile(h.Path("/x"), []byte("theirs"), 0o600))
			must(os.Chmod(h.Path("/x"), os.FileMode(mode)))
			must(unix.Setxattr(h.Path("/x"), "user.note", []byte("kept"), 0))
			must(h.KeepBackup("/x"))
			must(os.Remove(h.Path("/x")))
			must(os.WriteFile(h.Path("/x"), []byte("other"), 0o600))
			n := listOf(t, store)[0]
			want := "kept"
			if n.Secret {
				want = "none"
			}
			if _, noted := n.Xattrs["user.note"]; noted == n.Secret {
				t.Errorf("noted %v of a file with mode %o", n.Xattrs, mode)
			}
			open := func() (io.ReadCloser, error) { return store.Content(n) }
			sum := fmt.Sprintf("%x", sha256.Sum256([]byte("theirs")))
			must(h.WriteFile(t.Context(), "/x", FileSpec{
				Content: resource.Lazy(n.Size, sum, false, open), Sensitive: n.Secret, Mode: n.Mode, Xattrs: n.Xattrs,
			}))
			if got := attr(); got != want {
				t.Errorf("user.note is %q, want %q", got, want)
			}
			// What is there now and was not then goes, unless nobody knows.
			must(unix.Setxattr(h.Path("/x"), "user.note", []byte("later"), 0))
			for _, c := range []struct {
				text  string
				attrs Xattrs
				want  string
			}{{"a", nil, "later"}, {"b", Xattrs{}, map[bool]string{true: "later", false: "none"}[n.Secret]}} {
				must(h.WriteFile(t.Context(), "/x", FileSpec{Content: resource.Bytes([]byte(c.text)), Sensitive: n.Secret, Xattrs: c.attrs}))
				if got := attr(); got != c.want {
					t.Errorf("with %v user.note is %q, want %q", c.attrs, got, c.want)
				}
			}
		})
	}
}
