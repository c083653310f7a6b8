package object

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
)

// A builder writes a tree by hand, also one that git would not write.
type builder struct {
	t  *testing.T
	s  *Store
	in *Intake
}

func build(t *testing.T) *builder {
	t.Helper()
	s, err := Create(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	in, err := s.Begin()
	if err != nil {
		t.Fatal(err)
	}
	return &builder{t, s, in}
}

func (b *builder) add(kind Kind, data string) ID {
	b.t.Helper()
	id, err := b.in.AddBytes(kind, []byte(data))
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

func (b *builder) blob(data string) ID { return b.add(Blob, data) }

// tree takes "mode name", id, …
func (b *builder) tree(pairs ...any) ID {
	b.t.Helper()
	var data strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		id := pairs[i+1].(ID)
		data.WriteString(pairs[i].(string) + "\x00" + string(id[:]))
	}
	return b.add(Tree, data.String())
}

func (b *builder) commit(tree ID) *FS {
	b.t.Helper()
	id := b.add(Commit, fmt.Sprintf("tree %s\nauthor A <a@example.com> 1700000000 +0000\ncommitter A <a@example.com> 1700000000 +0000\n\nSubject\n", tree))
	if err := b.in.Commit(); err != nil {
		b.t.Fatal(err)
	}
	f, err := b.s.Tree(id, 1<<20, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return f
}

func TestTreeIsReadAsAFileSystem(t *testing.T) {
	b := build(t)
	text := b.blob("text")
	sub := b.tree("100644 a", text, "100755 run", text, "120000 up", b.blob("../top"), "120000 self", b.blob("."))
	f := b.commit(b.tree("40000 sub", sub, "100644 top", b.blob("top text")))
	if err := fstest.TestFS(f, "sub/a", "sub/run", "top"); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{"sub/up": "top text", "sub/self/self/a": "text"} {
		if data, err := fs.ReadFile(f, name); err != nil || string(data) != want {
			t.Errorf("%s reads %q, %v", name, data, err)
		}
	}
}

func TestPathsThatLeadElsewhereAreRefused(t *testing.T) {
	lfs := "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
	for name, test := range map[string]struct {
		make func(b *builder) ID
		path string
		want error
	}{
		"an absolute link":            {func(b *builder) ID { return b.tree("120000 x", b.blob("/etc/passwd")) }, "x", ErrEscapes},
		"a link above the root":       {func(b *builder) ID { return b.tree("120000 x", b.blob("../x")) }, "x", ErrEscapes},
		"a link that goes out and in": {func(b *builder) ID { return b.tree("100644 y", b.blob("y"), "120000 x", b.blob("../repo/y")) }, "x", ErrEscapes},
		"a directory link":            {func(b *builder) ID { return b.tree("120000 x", b.blob("..")) }, "x/etc/passwd", ErrEscapes},
		"a loop":                      {func(b *builder) ID { return b.tree("120000 x", b.blob("y"), "120000 y", b.blob("x")) }, "x", ErrLinkLoop},
		"a submodule":                 {func(b *builder) ID { return b.tree("160000 x", b.blob("")) }, "x", ErrSubmodule},
		"below a submodule":           {func(b *builder) ID { return b.tree("160000 x", b.blob("")) }, "x/y", ErrSubmodule},
		"a pointer of Git LFS":        {func(b *builder) ID { return b.tree("100644 x", b.blob(lfs)) }, "x", ErrLFS},
		"what is not there":           {func(b *builder) ID { return b.tree("100644 y", b.blob("")) }, "x", fs.ErrNotExist},
		"a path with dots":            {func(b *builder) ID { return b.tree("100644 y", b.blob("")) }, "../y", fs.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			b := build(t)
			f := b.commit(test.make(b))
			if _, err := fs.ReadFile(f, test.path); !errors.Is(err, test.want) {
				t.Errorf("ReadFile gives %v, want %v", err, test.want)
			}
			if _, err := f.Open(test.path); !errors.Is(err, test.want) {
				t.Errorf("Open gives %v, want %v", err, test.want)
			}
			if errors.Is(test.want, ErrEscapes) && !strings.Contains(test.path, "/") {
				if _, err := fs.ReadLink(f, test.path); !errors.Is(err, test.want) {
					t.Errorf("ReadLink gives %v, want %v", err, test.want)
				}
			}
		})
	}
}

func TestNamesThatLeadElsewhereAreRefused(t *testing.T) {
	for _, name := range []string{"..", ".", "", "a/b", ".git", ".GIT", "../../etc/cron.d/x"} {
		b := build(t)
		f := b.commit(b.tree("100644 "+name, b.blob("")))
		if _, err := fs.ReadDir(f, "."); err == nil {
			t.Errorf("name %q was taken", name)
		}
	}
	b := build(t)
	x := b.blob("")
	f := b.commit(b.tree("100644 a", x, "100644 a", x))
	if _, err := fs.ReadDir(f, "."); err == nil {
		t.Error("the same name twice was taken")
	}
}

func TestNamesThatCannotBeShownAreRefusedWhereTheyAre(t *testing.T) {
	for _, name := range []string{"new\nline", "escape\x1b[31m", "latin1\xe9", "del\x7f"} {
		b := build(t)
		text := b.blob("text")
		f := b.commit(b.tree("40000 bad", b.tree("100644 "+name, text), "100644 good", text))
		if _, err := fs.ReadDir(f, "bad"); !errors.Is(err, ErrName) {
			t.Errorf("directory with %q gives %v", name, err)
		}
		if _, err := fs.ReadFile(f, "good"); err != nil {
			t.Errorf("beside %q: %v", name, err)
		}
	}
}

func TestNamesThatNoFileCanHaveAreRefused(t *testing.T) {
	for length, want := range map[int]error{maxName: nil, maxName + 1: ErrLongName, 4096: ErrLongName} {
		b := build(t)
		f := b.commit(b.tree("100644 "+strings.Repeat("x", length), b.blob("text")))
		if _, err := fs.ReadDir(f, "."); !errors.Is(err, want) || err != nil && len(err.Error()) > 1000 {
			t.Errorf("a name of %d bytes gives %v", length, err)
		}
	}
}

func TestFileLargerThanTheLimitIsRefusedAndALargeOneIsReadInPieces(t *testing.T) {
	b := build(t)
	large := strings.Repeat("0123456789", 1<<18)
	f := b.commit(b.tree("100644 x", b.blob(large)))
	if _, err := fs.ReadFile(f, "x"); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("error is %v, want the limit", err)
	}
	f.limit = 1 << 30
	if data, err := fs.ReadFile(f, "x"); err != nil || string(data) != large {
		t.Errorf("read %d bytes, %v", len(data), err)
	}
}

// Git takes whatever is in refs for a reference, a file that is cut off too.
func TestAReferenceIsNeverThereInPart(t *testing.T) {
	b := build(t)
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(watch) }()
	refs := filepath.Dir(b.s.refPath("tip"))
	if _, err := unix.InotifyAddWatch(watch, refs, unix.IN_CREATE|unix.IN_MODIFY|unix.IN_MOVED_TO); err != nil {
		t.Fatal(err)
	}
	if err := b.s.SetRef("tip", ID{1}); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := unix.Read(watch, buf)
	if err != nil {
		t.Fatal(err)
	}
	if mask := binary.NativeEndian.Uint32(buf[4:]); mask != unix.IN_MOVED_TO || n != unix.SizeofInotifyEvent+16 {
		t.Errorf("the first of %d bytes of events in %s is %#x, want one rename into it", n, refs, mask)
	}
}

func TestWhatIsNotTheIDIsNotTakenIn(t *testing.T) {
	b := build(t)
	want, err := Hash(Blob, []byte("right"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.in.Add(Blob, 5, strings.NewReader("wrong"), want); err == nil {
		t.Error("other bytes were taken in")
	}
	if _, err := b.in.Add(Blob, 9, strings.NewReader("short"), ID{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("too few bytes give %v", err)
	}
}

func TestIDsAreThoseOfGit(t *testing.T) {
	id, err := Hash(Blob, []byte("hello\n"))
	if err != nil || id.String() != "ce013625030ba8dba906f756967f9e9ca394464a" {
		t.Errorf("id is %s, %v", id, err)
	}
}

func TestCompactionKeepsWhatIsNeededAndNoMore(t *testing.T) {
	b := build(t)
	ctx := context.Background()
	f := b.commit(b.tree("100644 x", b.blob(strings.Repeat("keep", 1000)), "100644 y", b.blob("0")))
	_ = f
	var last ID
	for i := range 200 {
		in, err := b.s.Begin()
		if err != nil {
			t.Fatal(err)
		}
		b.in = in
		kept, err := Hash(Blob, []byte(strings.Repeat("keep", 1000)))
		if err != nil {
			t.Fatal(err)
		}
		tree := b.tree("100644 x", kept, "100644 y", b.blob(fmt.Sprint(i)))
		last = b.add(Commit, fmt.Sprintf("tree %s\nauthor A <a> %d +0000\ncommitter A <a> 0 +0000\n\nS\n", tree, i))
		if err := in.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := b.s.Compact(ctx, last); err != nil {
			t.Fatal(err)
		}
		if err := b.s.Verify(ctx, last); err != nil {
			t.Fatalf("after %d: %v", i, err)
		}
	}
	if n := len(b.s.packs); n > maxPacks+1 {
		t.Errorf("there are %d packs", n)
	}
	again, err := Open(b.s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	if err := again.Verify(ctx, last); err != nil {
		t.Error(err)
	}
	objects := 0
	for _, p := range again.packs {
		objects += len(p.ids)
	}
	if objects > 60 {
		t.Errorf("there are %d objects, of which 4 are needed", objects)
	}
}

func FuzzTreeReader(f *testing.F) {
	f.Add([]byte("100644 a\x00aaaaaaaaaaaaaaaaaaaa"), "a")
	f.Add([]byte("40000 d\x00aaaaaaaaaaaaaaaaaaaa120000 l\x00bbbbbbbbbbbbbbbbbbbb"), "d/../l")
	f.Add([]byte("160000 s\x00aaaaaaaaaaaaaaaaaaaa"), "s/x")
	f.Add([]byte("100644 ..\x00aaaaaaaaaaaaaaaaaaaa"), "..")
	s, err := Create(filepath.Join(f.TempDir(), "store"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, tree []byte, name string) {
		in, err := s.Begin()
		if err != nil {
			t.Fatal(err)
		}
		// Ids that the fuzzer can write lead to a link, a file and the tree.
		id, err := in.AddBytes(Tree, tree)
		if err != nil {
			t.Fatal(err)
		}
		commit, err := in.AddBytes(Commit, []byte("tree "+id.String()+"\n\n"))
		if err != nil {
			t.Fatal(err)
		}
		if err := in.Commit(); err != nil {
			t.Fatal(err)
		}
		fsys, err := s.Tree(commit, 1<<20, nil)
		if err != nil {
			t.Fatal(err)
		}
		list, err := fs.ReadDir(fsys, ".")
		for _, e := range list {
			if !fs.ValidPath(e.Name()) || strings.Contains(e.Name(), "/") {
				t.Errorf("listed name %q", e.Name())
			}
		}
		if err == nil {
			_ = fs.WalkDir(fsys, ".", func(_ string, _ fs.DirEntry, err error) error { return nil })
		}
		_, _ = fs.ReadFile(fsys, name)
		_, _ = fs.Stat(fsys, name)
		_, _ = fs.ReadLink(fsys, name)
		if err := s.drop(s.packs); err != nil {
			t.Fatal(err)
		}
	})
}

// A tree whose link, file and directory exist, so that the fuzzer gets beyond
// the first name.
func FuzzLinks(f *testing.F) {
	f.Add("b", "d/l")
	f.Add("../../x", "l")
	f.Add("d/l/../../../..", "d/l/l")
	s, err := Create(filepath.Join(f.TempDir(), "store"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, target, name string) {
		in, err := s.Begin()
		if err != nil {
			t.Fatal(err)
		}
		b := &builder{t, s, in}
		link, text := b.blob(target), b.blob("text")
		sub := b.tree("100644 b", text, "120000 l", link)
		fsys := b.commit(b.tree("100644 b", text, "40000 d", sub, "120000 l", link))
		data, err := fs.ReadFile(fsys, name)
		if err == nil && string(data) != "text" {
			t.Errorf("%q through a link to %q reads %q", name, target, data)
		}
		if to, err := fs.ReadLink(fsys, name); err == nil && strings.HasPrefix(to, "/") {
			t.Errorf("absolute link %q was returned", to)
		}
		if err := s.drop(s.packs); err != nil {
			t.Fatal(err)
		}
	})
}
