package archive

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/edition"
	"trued.dev/trued/internal/host/fetch"
	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
	"trued.dev/trued/internal/source"
)

// The process that fetches is the test binary itself, and so is an agent that is
// there to be killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		run := map[string]func() error{
			"fetch-child": func() error { return source.ServeFetch(context.Background(), os.Stdin, os.Stdout) },
			"converge":    func() error { return convergeOnce(os.Args[2], os.Args[3]) },
		}[os.Args[1]]
		if run != nil {
			if err := run(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

// convergeOnce is an agent without a state.
func convergeOnce(root, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	m := New(host.New(root, host.Options{Backups: host.OpenBackups(root + ".backups")}))
	r := m.New().(*Resource)
	r.Path, r.Wanted = "/opt/x", resource.Bytes(data)
	e := resourcetest.Engine{Offline: true}
	return e.Converge(context.Background(), m, r)
}

// An entry is one of an archive that is made.
type entry struct {
	name, content, target string
	kind                  byte // tar.TypeReg when it is 0
	mode                  int64
}

func makeTar(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: e.mode, Size: int64(len(e.content)), Linkname: e.target, ModTime: time.Unix(1e9, 0)}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if e.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// packed has a program of the machine pack something.
func packed(t testing.TB, data []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], append(args[1:], "-c")...)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return out
}

func half(data []byte) []byte { return data[:len(data)/2] }

// tampered changes what was packed near its end, where a sum of it is.
func tampered(data []byte) []byte {
	data[len(data)-3] ^= 0xff
	return data
}

func makeZip(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		mode := fs.FileMode(0o644)
		switch {
		case e.kind == tar.TypeSymlink:
			mode, e.content = 0o777|fs.ModeSymlink, e.target
		case e.kind == tar.TypeFifo:
			mode |= fs.ModeNamedPipe
		case strings.HasSuffix(e.name, "/"):
			mode = 0o755 | fs.ModeDir
		}
		h.SetMode(mode)
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if !mode.IsDir() {
			if _, err := f.Write([]byte(e.content)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A scene is a host with a directory that archives are unpacked to.
type scene struct {
	t      *testing.T
	host   *host.Host
	root   string
	engine resourcetest.Engine
}

func newScene(t *testing.T) *scene {
	t.Helper()
	dir := t.TempDir()
	s := &scene{t: t, root: filepath.Join(dir, "root"), engine: resourcetest.Engine{Offline: true}}
	if err := os.MkdirAll(filepath.Join(s.root, "opt"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.host = on(t, s.root, dir)
	return s
}

func on(t *testing.T, root, dir string) *host.Host {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return host.New(root, host.Options{
		Backups: host.OpenBackups(filepath.Join(dir, "backups")),
		Digests: host.OpenDigests(filepath.Join(dir, "digests")),
		Fetcher: source.NewFetcher(filepath.Join(dir, "fetch"), []string{self, "fetch-child"}),
	})
}

func (s *scene) resource(data []byte, change ...func(*Resource)) (resource.Module, *Resource) {
	m := New(s.host)
	r := m.New().(*Resource)
	r.Path, r.Wanted, r.Source = "/opt/x", resource.Bytes(data), "files/x"
	for _, c := range change {
		c(r)
	}
	return m, r
}

func (s *scene) converge(data []byte, change ...func(*Resource)) error {
	s.t.Helper()
	m, r := s.resource(data, change...)
	if err := r.Validate(); err != nil {
		s.t.Fatal(err)
	}
	if err := s.engine.Converge(s.t.Context(), m, r); err != nil {
		return err
	}
	found, err := s.engine.Check(s.t.Context(), m, r)
	if err == nil && !found.InOrder() {
		err = fmt.Errorf("after it was applied it differs: %+v", found.Diff)
	}
	return err
}

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// has fails the test unless the directory holds just that: paths with content,
// or with "-> target" of a link, or "/" of a directory.
func (s *scene) has(want map[string]string) {
	s.t.Helper()
	got := map[string]string{}
	top := filepath.Join(s.root, "opt/x")
	err := filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(top, name)
		switch {
		case err != nil || rel == ".":
			return err
		case d.IsDir():
			got[rel] = "/"
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(name)
			got[rel] = "-> " + target
			return err
		default:
			data, err := os.ReadFile(name)
			got[rel] = string(data)
			return err
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Errorf("it holds %.500q, want %.500q", got, want)
	}
	s.bare()
}

// bare fails the test when anything was left beside the directory.
func (s *scene) bare() {
	s.t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.root, "opt"))
	s.must(err)
	for _, e := range entries {
		if e.Name() != "x" {
			s.t.Errorf("%s was left", e.Name())
		}
	}
}

func (s *scene) put(below, content string) {
	s.t.Helper()
	name := filepath.Join(s.root, "opt/x", below)
	s.must(os.MkdirAll(filepath.Dir(name), 0o755))
	s.must(os.WriteFile(name, []byte(content), 0o644))
}

// leave takes the resource out of Git.
func (s *scene) leave(data []byte, change ...func(*Resource)) {
	s.t.Helper()
	m, r := s.resource(data, change...)
	gone, err := s.engine.Absent(m, r)
	s.must(err)
	s.must(s.engine.Leave(s.t.Context(), m, r, gone))
	found, err := s.engine.CheckAbsent(s.t.Context(), m, r, gone)
	if err != nil || !found.InOrder() {
		s.t.Errorf("after it left: %+v, error %v", found, err)
	}
}

func one(t testing.TB) []byte {
	return makeTar(t,
		entry{name: "a", content: "1"}, entry{name: "sub/", kind: tar.TypeDir, mode: 0o755},
		entry{name: "sub/run", content: "#!1", mode: 0o755}, entry{name: "old", content: "1"},
		entry{name: "sub/l", kind: tar.TypeSymlink, target: "../a"})
}

func two(t testing.TB) []byte {
	return makeTar(t, entry{name: "a", content: "2"}, entry{name: "sub/run", content: "#!2", mode: 0o755}, entry{name: "new", content: "2"})
}

func TestArchiveKeepsThePromisesOfAModule(t *testing.T) {
	gz := zipped(t, one(t))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(gz) }))
	t.Cleanup(server.Close)
	url := fetch.File{URL: server.URL + "/x", Checksum: fmt.Sprintf("sha256:%x", sha256.Sum256(gz))}
	for name, c := range map[string]struct {
		had  func(s *scene)
		data []byte
		fill Resource
	}{
		"a tar":               {data: one(t)},
		"a tar.gz":            {data: gz},
		"a tar.xz":            {data: packed(t, one(t), "xz")},
		"a tar.xz of three":   {data: slices.Concat(packed(t, one(t)[:700], "xz", "--check=sha256"), packed(t, one(t)[700:3000], "xz"), packed(t, one(t)[3000:], "xz", "-9"))},
		"a tar.xz of a code":  {data: packed(t, one(t), "xz", "--x86", "--lzma2=preset=9e")},
		"a tar.zst":           {data: packed(t, one(t), "zstd")},
		"a zip":               {data: makeZip(t, entry{name: "a", content: "1"}, entry{name: "b/"}, entry{name: "b/l", kind: tar.TypeSymlink, target: "../a"})},
		"an empty zip":        {data: makeZip(t)},
		"from a server":       {fill: Resource{File: url}},
		"hard links":          {data: makeTar(t, entry{name: "a", content: "1"}, entry{name: "b", kind: tar.TypeLink, target: "a"})},
		"stripped":            {data: makeTar(t, entry{name: "v1/a", content: "1"}, entry{name: "README", content: "1"}), fill: Resource{Strip: 1}},
		"modes":               {data: one(t), fill: Resource{Directory: edition.Directory{Mode: resource.NewMode(0o750), FileMode: resource.NewMode(0o440), DirectoryMode: resource.NewMode(0o550)}}},
		"an owner":            {data: one(t), fill: Resource{Directory: edition.Directory{Owner: fmt.Sprint(os.Geteuid()), Group: fmt.Sprint(os.Getegid())}}},
		"nothing above it":    {data: one(t), fill: Resource{Path: "/srv/deep/x", Directory: edition.Directory{Parents: true}}},
		"a directory":         {data: one(t), had: func(s *scene) { s.must(os.Mkdir(s.root+"/opt/x", 0o700)) }},
		"what others have":    {data: one(t), had: func(s *scene) { s.put("theirs/x", "theirs"); s.put("sub/x", "theirs") }},
		"a file by force":     {data: one(t), had: func(s *scene) { s.must(os.WriteFile(s.root+"/opt/x", []byte("f"), 0o640)) }, fill: Resource{Directory: edition.Directory{Force: true}}},
		"a link by force":     {data: one(t), had: func(s *scene) { s.must(os.Symlink("nowhere", s.root+"/opt/x")) }, fill: Resource{Directory: edition.Directory{Force: true}}},
		"what is sensitive":   {data: makeTar(t, entry{name: "a", content: "s3cr3t"}), fill: Resource{Meta: resource.Meta{Sensitive: true}}},
		"links in a row":      {data: makeTar(t, entry{name: "a/b/f", content: "1"}, entry{name: "l", kind: tar.TypeSymlink, target: "a/b"}, entry{name: "a/m", kind: tar.TypeSymlink, target: "../l/f"})},
		"what it creates":     {data: one(t), fill: Resource{Creates: "sub/run"}},
		"names of both cases": {data: makeTar(t, entry{name: "A", content: "1"}, entry{name: "a", content: "2"})},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			if c.had != nil {
				c.had(s)
			}
			secret := ""
			if c.fill.Sensitive {
				secret = "s3cr3t"
			}
			resourcetest.Run(t, resourcetest.Case{
				Module: func() resource.Module { return New(s.host) },
				Resource: func(m resource.Module) resource.Resource {
					r := m.New().(*Resource)
					filled := c.fill
					filled.host = r.host
					if filled.Path == "" {
						filled.Path = "/opt/x"
					}
					if c.data != nil {
						filled.Source = "files/x"
					}
					*r = filled
					return r
				},
				Tree: fstest.MapFS{"files/x": {Data: c.data}},
				Dirs: []string{s.root}, Offline: true, Secret: secret,
			})
		})
	}
}

func TestAnArchiveThatIsHostileChangesNothing(t *testing.T) {
	zeros := func(n int) string { return strings.Repeat("\x00", n) }
	whole, bomb := zipped(t, one(t)), makeTar(t, entry{name: "a", content: zeros(80 << 20)})
	torn := makeZip(t, entry{name: "a", content: "some content"})
	torn[len("PK")+40] ^= 0xff
	for name, c := range map[string]struct {
		data []byte
		fill func(*Resource)
		says string
	}{
		"a name that goes up":            {data: makeTar(t, entry{name: "../evil", content: "x"}), says: "leads out"},
		"one that goes up in the middle": {data: makeTar(t, entry{name: "a/../../evil", content: "x"}), says: "leads out"},
		"one that goes up and is cut":    {data: makeTar(t, entry{name: "a/../evil", content: "x"}), fill: func(r *Resource) { r.Strip = 1 }, says: "leads out"},
		"an absolute name":               {data: makeTar(t, entry{name: "/opt/evil", content: "x"}), says: "absolute"},
		"in a zip":                       {data: makeZip(t, entry{name: "../evil", content: "x"}), says: "leads out"},
		"by backslashes":                 {data: makeZip(t, entry{name: `..\evil`, content: "x"}), says: "backslash"},
		"an absolute link":               {data: makeTar(t, entry{name: "l", kind: tar.TypeSymlink, target: "/etc/passwd"}), says: "not in the tree"},
		"a link that goes up":            {data: makeTar(t, entry{name: "a/l", kind: tar.TypeSymlink, target: "../../etc"}), says: "not in the tree"},
		"a link that goes up by another": {data: makeTar(t, entry{name: "a/b/l", kind: tar.TypeSymlink, target: "../.."}, entry{name: "m", kind: tar.TypeSymlink, target: "a/b/l/../.."}), says: "not in the tree"},
		"a link of a zip":                {data: makeZip(t, entry{name: "l", kind: tar.TypeSymlink, target: "../x"}), says: "not in the tree"},
		"a file through a link":          {data: makeTar(t, entry{name: "l", kind: tar.TypeSymlink, target: "."}, entry{name: "l/evil", content: "x"}), says: "goes through it"},
		"a file over a link":             {data: makeTar(t, entry{name: "l", kind: tar.TypeSymlink, target: "a"}, entry{name: "l", content: "x"}), says: "twice"},
		"two of one name":                {data: makeTar(t, entry{name: "a", content: "1"}, entry{name: "./a", content: "2"}), says: "twice"},
		"a directory of a file's name":   {data: makeTar(t, entry{name: "a", content: "1"}, entry{name: "a/", kind: tar.TypeDir}), says: "goes through it"},
		"a hard link to elsewhere":       {data: makeTar(t, entry{name: "h", kind: tar.TypeLink, target: "../../etc/passwd"}), says: "leads out"},
		"an absolute hard link":          {data: makeTar(t, entry{name: "h", kind: tar.TypeLink, target: "/etc/passwd"}), says: "absolute"},
		"a hard link to what is not yet": {data: makeTar(t, entry{name: "h", kind: tar.TypeLink, target: "a"}, entry{name: "a", content: "1"}), says: "no file before it"},
		"a hard link to a link":          {data: makeTar(t, entry{name: "l", kind: tar.TypeSymlink, target: "a"}, entry{name: "h", kind: tar.TypeLink, target: "l"}), says: "no file before it"},
		"a device":                       {data: makeTar(t, entry{name: "d", kind: tar.TypeChar}), says: "device"},
		"a FIFO":                         {data: makeTar(t, entry{name: "f", kind: tar.TypeFifo}), says: "FIFO"},
		"a FIFO in a zip":                {data: makeZip(t, entry{name: "f", kind: tar.TypeFifo}), says: "neither a file"},
		"a control character":            {data: makeTar(t, entry{name: "a\x1b[2J", content: "x"}), says: "control character"},
		"a name of temporary files":      {data: makeTar(t, entry{name: "a/.trued-x", content: "x"}), says: "temporary"},
		"no UTF-8":                       {data: makeTar(t, entry{name: "a\xff", content: "x"}), says: "UTF-8"},
		"too much":                       {data: makeTar(t, entry{name: "a", content: zeros(5000)}), fill: func(r *Resource) { r.UnpackedLimit = 4000 }, says: "unpacked_limit"},
		"too much in a zip":              {data: makeZip(t, entry{name: "a", content: zeros(5000)}), fill: func(r *Resource) { r.UnpackedLimit = 4000 }, says: "unpacked_limit"},
		"too many":                       {data: two(t), fill: func(r *Resource) { r.EntriesLimit = 2 }, says: "entries_limit"},
		"a bomb":                         {data: zipped(t, bomb), says: "bomb"},
		"a bomb that is left out":        {data: zipped(t, makeTar(t, entry{name: "a", content: zeros(80 << 20)}, entry{name: "b"})), fill: func(r *Resource) { r.Strip = 1 }, says: "bomb"},
		"a bomb in a zip":                {data: makeZip(t, entry{name: "a", content: zeros(80 << 20)}), says: "bomb"},
		"half of one":                    {data: whole[:len(whole)/2], says: "EOF"},
		"a tar that is cut":              {data: makeTar(t, entry{name: "a", content: zeros(5000)})[:3000], says: "EOF"},
		"a zip that was tampered with":   {data: torn, says: ""},
		"one of another packing":         {data: []byte("LZIP\x01"), says: "is packed with lzip, which is not read here: tar, tar.gz"},
		"a bomb of xz":                   {data: packed(t, bomb, "xz", "-0"), says: "bomb"},
		"a bomb of zstd":                 {data: packed(t, bomb, "zstd"), says: "bomb"},
		"half of an xz":                  {data: half(packed(t, whole, "xz")), says: "xz: data is"},
		"half of a zst":                  {data: half(packed(t, whole, "zstd")), says: "zstd"},
		"an xz of much memory":           {data: packed(t, one(t), "xz", "--lzma2=dict=65MiB"), says: "takes more than 64 MiB of memory"},
		"a zst of much memory":           {data: packed(t, one(t), "zstd", "--ultra", "-22", "--long=31"), says: "too much memory"},
		"a zst that was tampered with":   {data: tampered(packed(t, one(t), "zstd", "--check")), says: "zstd"},
		"an xz that was tampered with":   {data: tampered(packed(t, one(t), "xz")), says: "xz: data is corrupt"},
		"an xz of no tar":                {data: packed(t, []byte("<html>"), "xz"), says: "EOF"},
		"no archive":                     {data: []byte("<html>not found</html>"), says: "no archive"},
		"nothing":                        {data: nil, says: "no archive"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.must(s.converge(one(t)))
			before := resourcetest.Fingerprint(t, s.root, false)
			fill := c.fill
			if fill == nil {
				fill = func(*Resource) {}
			}
			err := s.converge(c.data, fill)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("returned %v", err)
			}
			if after := resourcetest.Fingerprint(t, s.root, false); !slices.Equal(before, after) {
				t.Errorf("%q\nbecame %q", before, after)
			}
			s.must(s.converge(two(t)))
		})
	}
}

func TestNoSpecialBitsAndNoRightsOfOthersComeOutOfAnArchive(t *testing.T) {
	s := newScene(t)
	s.must(s.converge(makeTar(t, entry{name: "d/", kind: tar.TypeDir, mode: 0o3777}, entry{name: "d/su", mode: 0o6777}, entry{name: "none", mode: 0o001})))
	for name, want := range map[string]fs.FileMode{"d": 0o755 | fs.ModeDir, "d/su": 0o755, "none": 0o601} {
		if i, err := os.Lstat(filepath.Join(s.root, "opt/x", name)); err != nil || i.Mode() != want {
			t.Errorf("%s has %v, error %v", name, i.Mode(), err)
		}
	}
}

func TestAnotherReleaseTakesThePlaceOfTheWholeAndWhatOthersHaveStays(t *testing.T) {
	s := newScene(t)
	s.must(s.converge(one(t)))
	s.put("sub/theirs", "t")
	s.put("log/deep/x", "t")
	before, err := os.Stat(s.root + "/opt/x/log/deep/x")
	s.must(err)
	s.must(os.Chmod(s.root+"/opt/x/log", 0o711))
	s.must(s.converge(two(t)))
	s.has(map[string]string{"a": "2", "new": "2", "sub": "/", "sub/run": "#!2", "sub/theirs": "t", "log": "/", "log/deep": "/", "log/deep/x": "t"})
	after, err := os.Stat(s.root + "/opt/x/log/deep/x")
	s.must(err)
	if !os.SameFile(before, after) {
		t.Error("what others have was copied")
	}
	if i, err := os.Stat(s.root + "/opt/x/log"); err != nil || i.Mode().Perm() != 0o711 {
		t.Errorf("their directory has %v, error %v", i.Mode(), err)
	}
	s.must(s.converge(one(t), func(r *Resource) { r.Purge = true }))
	s.has(map[string]string{"a": "1", "old": "1", "sub": "/", "sub/run": "#!1", "sub/l": "-> ../a"})
}

func TestWhatAnotherResourceHoldsInTheTreeIsItsOwn(t *testing.T) {
	s := newScene(t)
	s.engine.Owner = func(c resource.Claim) (resource.Address, bool) {
		return resource.Address{Kind: "file", Name: c.Name}, c.Name == "/opt/x/a" || c.Name == "/opt/x/conf/y"
	}
	purge := func(r *Resource) { r.Purge = true }
	s.must(s.converge(one(t), purge))
	s.put("a", "held")
	s.put("conf/y", "held")
	s.must(s.converge(two(t), purge))
	s.has(map[string]string{"a": "held", "new": "2", "sub": "/", "sub/run": "#!2", "conf": "/", "conf/y": "held"})
	s.leave(two(t), purge)
	s.has(map[string]string{"a": "held", "conf": "/", "conf/y": "held"})
}

func TestDriftIsSeenAndPutRight(t *testing.T) {
	at := func(s *scene, below string) string { return filepath.Join(s.root, "opt/x", below) }
	for name, c := range map[string]struct {
		drift func(s *scene)
		field string
	}{
		"content":             {func(s *scene) { s.put("a", "drifted") }, "content:/opt/x/a"},
		"a file is gone":      {func(s *scene) { s.must(os.Remove(at(s, "sub/run"))) }, "state:/opt/x/sub/run"},
		"a directory is gone": {func(s *scene) { s.must(os.RemoveAll(at(s, "sub"))) }, "state:/opt/x/sub"},
		"all is gone":         {func(s *scene) { s.must(os.RemoveAll(at(s, ""))) }, "state"},
		"another mode":        {func(s *scene) { s.must(os.Chmod(at(s, "a"), 0o666)) }, "mode:/opt/x/a"},
		"its own mode":        {func(s *scene) { s.must(os.Chmod(at(s, ""), 0o777)) }, "mode"},
		"another target":      {func(s *scene) { s.must(os.Remove(at(s, "sub/l"))); s.must(os.Symlink("x", at(s, "sub/l"))) }, "target:/opt/x/sub/l"},
		"a link for a file":   {func(s *scene) { s.must(os.Remove(at(s, "a"))); s.must(os.Symlink("old", at(s, "a"))) }, "state:/opt/x/a"},
		"a link for a tree":   {func(s *scene) { s.must(os.RemoveAll(at(s, "sub"))); s.must(os.Symlink(".", at(s, "sub"))) }, "state:/opt/x/sub"},
		"a directory's place": {func(s *scene) { s.must(os.Remove(at(s, "a"))); s.must(os.Mkdir(at(s, "a"), 0o755)) }, "state:/opt/x/a"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.must(s.converge(one(t)))
			before := resourcetest.Fingerprint(t, s.root, false)
			c.drift(s)
			m, r := s.resource(one(t))
			found, err := s.engine.Check(t.Context(), m, r)
			if err != nil || !found.Diff.Has(c.field) || found.Witness != nil && module.Holds(m.(module), t.Context(), r.Name(), found.Witness) {
				t.Errorf("found %+v, error %v", found.Diff, err)
			}
			s.must(s.converge(one(t)))
			if after := resourcetest.Fingerprint(t, s.root, false); !slices.Equal(before, after) {
				t.Errorf("%q\nbecame %q", before, after)
			}
		})
	}
}

func TestWhatAnArchiveCreatesIsLeftAlone(t *testing.T) {
	for name, creates := range map[string]string{"below the directory": "sub/run", "by its whole path": "/opt/x/sub/run"} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			guard := func(r *Resource) { r.Creates = creates }
			s.must(s.converge(one(t), guard))
			s.put("a", "theirs now")
			s.must(os.Remove(s.root + "/opt/x/old"))
			s.must(s.converge(one(t), guard))
			s.must(s.converge(two(t), guard))
			s.has(map[string]string{"a": "theirs now", "sub": "/", "sub/run": "#!1", "sub/l": "-> ../a"})
			s.must(os.Remove(s.root + "/opt/x/sub/run"))
			s.must(s.converge(two(t), guard))
			s.has(map[string]string{"a": "2", "new": "2", "sub": "/", "sub/run": "#!2"})
			s.leave(two(t), guard)
			s.has(map[string]string{})
		})
	}
}

func TestWhatWasThereOfItselfIsNotTheArchives(t *testing.T) {
	s := newScene(t)
	guard := func(r *Resource) { r.Creates = "a" }
	s.put("a", "mine")
	s.must(s.converge(one(t), guard))
	s.leave(one(t), guard)
	s.has(map[string]string{"a": "mine"})
}

func TestAFileInThePlaceOfTheDirectoryCreatedNothing(t *testing.T) {
	s := newScene(t)
	s.must(os.WriteFile(s.root+"/opt/x", []byte("f"), 0o644))
	s.must(s.converge(one(t), func(r *Resource) { r.Creates, r.Force = "sub/run", true }))
	s.has(map[string]string{"a": "1", "old": "1", "sub": "/", "sub/run": "#!1", "sub/l": "-> ../a"})
}

func TestAnArchiveThatDoesNotBringWhatItIsToCreateFails(t *testing.T) {
	s := newScene(t)
	err := s.converge(one(t), func(r *Resource) { r.Creates = "bin/x" })
	if err == nil || !strings.Contains(err.Error(), `did not bring "/opt/x/bin/x" (creates)`) {
		t.Errorf("returned %v", err)
	}
}

func TestAnArchiveThatAProgramUnpacksWaitsForIt(t *testing.T) {
	zstd := resource.Need{Claim: resource.Claim{Space: resource.SpacePackage, Name: "zstd"}}
	for _, c := range []struct {
		fill Resource
		want bool
	}{
		{Resource{Path: "/x", Source: "files/x.tar.zst"}, true},
		{Resource{Path: "/x", File: fetch.File{URL: "https://a/x.tar.gz", Mirrors: []string{"https://b/x.tzst"}}}, true},
		{Resource{Path: "/x", Source: "files/x.tar.xz"}, false},
	} {
		if got := slices.Contains(c.fill.Needs(), zstd); got != c.want {
			t.Errorf("%+v needs %v", c.fill, c.fill.Needs())
		}
	}
}

func TestAWitnessHoldsUntilSomethingChanges(t *testing.T) {
	s := newScene(t)
	s.must(s.converge(one(t)))
	time.Sleep(200 * time.Millisecond) // what has just been written is no witness
	m, r := s.resource(one(t))
	found, err := s.engine.Check(t.Context(), m, r)
	s.must(err)
	if found.Witness == nil || !m.(resource.Examiner).Holds(t.Context(), "/opt/x", found.Witness) {
		t.Fatalf("witness of %d bytes does not hold", len(found.Witness))
	}
	s.put("a", "3")
	if m.(resource.Examiner).Holds(t.Context(), "/opt/x", found.Witness) {
		t.Error("it holds though a file has changed")
	}
}

func TestWhatWasThereByTheSameNamesIsReplacedByForceAloneAndComesBack(t *testing.T) {
	s := newScene(t)
	s.put("a", "mine")
	s.put("other", "mine")
	var taken *host.TakenError
	if err := s.converge(one(t)); !errors.As(err, &taken) || !slices.Equal(taken.Paths, []string{"a"}) {
		t.Fatalf("returned %v", err)
	}
	s.has(map[string]string{"a": "mine", "other": "mine"})
	force := func(r *Resource) { r.Force = true }
	s.must(s.converge(one(t), force))
	s.has(map[string]string{"a": "1", "old": "1", "other": "mine", "sub": "/", "sub/run": "#!1", "sub/l": "-> ../a"})
	s.must(s.converge(two(t), force))
	s.leave(two(t), force)
	s.has(map[string]string{"a": "mine", "other": "mine"})
}

func TestWhatWasThereAndLikeTheTreeAlreadyStaysWhenThatLeaves(t *testing.T) {
	s := newScene(t)
	s.put("a", "1")
	s.must(os.Chmod(s.root+"/opt/x/a", 0o640))
	s.must(os.Mkdir(s.root+"/opt/x/sub", 0o700))
	before := resourcetest.Fingerprint(t, s.root+"/opt/x", false)
	s.must(s.converge(one(t)))
	s.must(s.converge(two(t)))
	s.leave(two(t))
	if after := resourcetest.Fingerprint(t, s.root+"/opt/x", false); !slices.Equal(before, after) {
		t.Errorf("%q\nbecame %q", before, after)
	}
}

func TestRestoreFalseTakesAllOfTheTreeAway(t *testing.T) {
	s := newScene(t)
	s.put("a", "1")
	all := func(r *Resource) { no := false; r.Restore = &no }
	s.must(s.converge(one(t), all))
	s.leave(one(t), all)
	s.has(map[string]string{}) // the directory itself was there before
}

func TestADirectoryThatHoldsWhatOthersHaveOutlivesItsArchive(t *testing.T) {
	s := newScene(t)
	s.must(s.converge(one(t)))
	s.put("sub/theirs", "t")
	s.leave(one(t))
	s.has(map[string]string{"sub": "/", "sub/theirs": "t"})
	s.must(s.converge(one(t), func(r *Resource) { r.Force = true }))
	s.must(s.converge(one(t), func(r *Resource) { r.Force = true }))
}

func TestForceTakesWhatOthersHaveAlongWhenItLeaves(t *testing.T) {
	s := newScene(t)
	force := func(r *Resource) { r.Force = true }
	s.must(s.converge(one(t), force))
	s.put("sub/theirs", "t")
	s.leave(one(t), force)
	s.has(map[string]string{})
}

func TestTheDirectoryIsNeverMissingNorMixed(t *testing.T) {
	s := newScene(t)
	s.must(s.converge(one(t)))
	stop, wrong := make(chan bool), make(chan string, 1)
	var looks atomic.Int64
	go func() {
		defer close(wrong)
		for {
			select {
			case <-stop:
				return
			default:
			}
			// One descriptor sees one tree.
			d, err := os.OpenRoot(s.root + "/opt/x")
			if err != nil {
				wrong <- err.Error()
				return
			}
			a, errA := d.ReadFile("a")
			run, errRun := d.ReadFile("sub/run")
			_ = d.Close()
			if errA == nil && errRun == nil && "#!"+string(a) != string(run) {
				wrong <- fmt.Sprintf("%s beside %s", a, run)
				return
			}
			looks.Add(1)
		}
	}()
	for looks.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	for range 10 {
		s.must(s.converge(two(t)))
		s.must(s.converge(one(t)))
	}
	close(stop)
	for w := range wrong {
		t.Error(w)
	}
}

func TestNothingIsLostThatOthersWriteMeanwhile(t *testing.T) {
	s := newScene(t)
	s.must(s.converge(one(t)))
	stop, ended := make(chan bool), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				ended <- n
				return
			default:
			}
			// One that has the directory open, and goes on with it after it was replaced.
			d, err := os.OpenRoot(s.root + "/opt/x")
			if err != nil {
				continue
			}
			for range 20 {
				time.Sleep(time.Millisecond)
				for _, name := range []string{fmt.Sprintf("w%d", n), fmt.Sprintf("sub/w%d", n), fmt.Sprintf("dir%d", n%3)} {
					if strings.HasPrefix(name, "dir") {
						_ = d.Mkdir(name, 0o755)
						name += fmt.Sprintf("/w%d", n)
					}
					if d.WriteFile(name, []byte("w"), 0o644) != nil {
						break
					}
					if strings.HasPrefix(name, "dir") {
						n++ // all three were written
					}
				}
			}
			_ = d.Close()
		}
	}()
	for range 5 {
		s.must(s.converge(two(t)))
		s.must(s.converge(one(t)))
	}
	close(stop)
	n := <-ended
	for i := range n {
		for _, name := range []string{fmt.Sprintf("w%d", i), fmt.Sprintf("sub/w%d", i), fmt.Sprintf("dir%d/w%d", i%3, i)} {
			if _, err := os.Lstat(filepath.Join(s.root, "opt/x", name)); err != nil {
				t.Fatalf("of %d: %v", n, err)
			}
		}
	}
	s.bare()
}

func TestAnAgentThatIsKilledInTheMiddleLeavesNothingAfterTheNextRun(t *testing.T) {
	t.Run("in a directory of its own", func(t *testing.T) { killedInTheMiddle(t, newScene(t)) })
	t.Run("in a directory of a user's", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("needs root")
		}
		s := newScene(t)
		s.must(os.Chown(s.root+"/opt", 65534, 65534))
		killedInTheMiddle(t, s)
	})
}

func killedInTheMiddle(t *testing.T, s *scene) {
	many := []entry{}
	for i := range 20_000 {
		many = append(many, entry{name: fmt.Sprintf("d%d/f%d", i%100, i), content: "x"})
	}
	file := filepath.Join(t.TempDir(), "x.tar")
	s.must(os.WriteFile(file, makeTar(t, many...), 0o600))
	agent := exec.Command(os.Args[0], "converge", s.root, file)
	s.must(agent.Start())
	for {
		if halfway, err := filepath.Glob(s.root + "/opt/.trued-tree-*/d*"); err != nil || len(halfway) > 10 {
			s.must(err)
			break
		}
		if _, err := os.Stat(s.root + "/opt/x"); err == nil {
			t.Fatal("it was through before it could be killed")
		}
		time.Sleep(time.Millisecond)
	}
	s.must(agent.Process.Kill())
	_ = agent.Wait()
	if _, err := os.Stat(s.root + "/opt/x"); err == nil {
		t.Error("half of it is to be seen")
	}
	small := filepath.Join(t.TempDir(), "y.tar")
	s.must(os.WriteFile(small, one(t), 0o600))
	if out, err := exec.Command(os.Args[0], "converge", s.root, small).CombinedOutput(); err != nil {
		t.Fatalf("the next run: %v: %s", err, out)
	}
	s.has(map[string]string{"a": "1", "old": "1", "sub": "/", "sub/run": "#!1", "sub/l": "-> ../a"})
	// One that was cut off after the exchange knows nothing of what it did.
	if out, err := exec.Command(os.Args[0], "converge", s.root, small).CombinedOutput(); err != nil {
		t.Fatalf("a run that has forgotten the last one: %v: %s", err, out)
	}
	s.has(map[string]string{"a": "1", "old": "1", "sub": "/", "sub/run": "#!1", "sub/l": "-> ../a"})
}

func TestADiskThatIsFullIsSaidAndChangesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount")
	}
	s := newScene(t)
	if err := unix.Mount("small", s.root+"/opt", "tmpfs", 0, "size=512k"); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(s.root+"/opt", unix.MNT_DETACH) })
	s.must(s.converge(one(t)))
	big := zipped(t, makeTar(t, entry{name: "a", content: strings.Repeat("x", 1<<20)}))
	if err := s.converge(big); !host.OutOfSpace(err) || !strings.Contains(err.Error(), "no space is left") {
		t.Errorf("returned %v", err)
	}
	s.has(map[string]string{"a": "1", "old": "1", "sub": "/", "sub/run": "#!1", "sub/l": "-> ../a"})
}

func TestALinkThatAUserPutInThePlaceLeadsNowhere(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	s := newScene(t)
	s.must(os.MkdirAll(s.root+"/roots/sub", 0o755))
	s.must(os.WriteFile(s.root+"/roots/a", []byte("root's"), 0o600))
	s.must(os.Chown(s.root+"/opt", 65534, 65534))
	s.must(os.Symlink("/roots", s.root+"/opt/x"))
	s.must(os.Lchown(s.root+"/opt/x", 65534, 65534))
	before := resourcetest.Fingerprint(t, s.root+"/roots", true)
	var other *host.TypeError
	if err := s.converge(one(t)); !errors.As(err, &other) {
		t.Errorf("returned %v", err)
	}
	s.must(s.converge(one(t), func(r *Resource) { r.Force = true }))
	// And one below, in a tree that is the user's own.
	owner := func(r *Resource) { r.Owner, r.Force = "65534", true }
	s.must(s.converge(one(t), owner))
	s.must(os.RemoveAll(s.root + "/opt/x/sub"))
	s.must(os.Symlink("/roots", s.root+"/opt/x/sub"))
	s.must(os.Lchown(s.root+"/opt/x/sub", 65534, 65534))
	s.must(s.converge(two(t), owner))
	s.leave(two(t), owner)
	if after := resourcetest.Fingerprint(t, s.root+"/roots", true); !slices.Equal(before, after) {
		t.Errorf("%q\nbecame %q", before, after)
	}
}

func TestAStaleTreeInADirectoryOfAUsersIsNotTouched(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	s := newScene(t)
	s.must(os.Chown(s.root+"/opt", 65534, 65534))
	for name, trap := range map[string]func(dir string) error{
		"no mark": func(string) error { return nil },
		"their own mark": func(dir string) error {
			return errors.Join(mark(dir), os.Chown(dir+"/.trued-unfinished", 65534, 65534))
		},
		"one they get at": func(dir string) error { return errors.Join(mark(dir), os.Chmod(dir, 0o770)) },
		"a link for one":  func(dir string) error { return os.Symlink("roots", dir+"/.trued-unfinished") },
	} {
		dir := s.root + "/opt/.trued-tree-" + strings.ReplaceAll(fmt.Sprintf("%10.10s", name), " ", "_") + "-x"
		s.must(errors.Join(os.MkdirAll(dir+"/roots", 0o700), trap(dir)))
	}
	before := resourcetest.Fingerprint(t, s.root, false)
	s.must(s.converge(one(t)))
	for _, line := range before {
		if !slices.Contains(resourcetest.Fingerprint(t, s.root, false), line) {
			t.Errorf("is gone: %s", line)
		}
	}
}

func mark(dir string) error { return os.WriteFile(dir+"/.trued-unfinished", nil, 0o600) }

func TestWrongValuesAreNamed(t *testing.T) {
	good := fetch.File{URL: "https://a/x", Checksum: "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}
	for name, c := range map[string]struct {
		fill  Resource
		field string
	}{
		"no path":          {Resource{File: good}, "archive"},
		"the root":         {Resource{Path: "/", File: good}, "archive"},
		"nothing":          {Resource{Path: "/x"}, "url"},
		"two of it":        {Resource{Path: "/x", File: good, Source: "a"}, "source"},
		"no checksum":      {Resource{Path: "/x", File: fetch.File{URL: "https://a/x"}}, "checksum"},
		"less than none":   {Resource{Path: "/x", File: good, Strip: -1}, "strip"},
		"a way up":         {Resource{Path: "/x", File: good, Creates: "../y"}, "creates"},
		"less entries":     {Resource{Path: "/x", File: good, EntriesLimit: -1}, "entries_limit"},
		"less bytes":       {Resource{Path: "/x", File: good, UnpackedLimit: -1}, "unpacked_limit"},
		"one for everyone": {Resource{Path: "/x", File: good, Meta: resource.Meta{Sensitive: true}, Directory: edition.Directory{FileMode: resource.NewMode(0o644)}}, "file_mode"},
	} {
		var wrong *resource.FieldError
		if err := c.fill.Validate(); !errors.As(err, &wrong) || wrong.Field != c.field {
			t.Errorf("%s: returned %v, want an error in %s", name, err, c.field)
		}
	}
}

// TestOnHost holds the promises of a module on a booted host.
func TestOnHost(t *testing.T) {
	if !hosttest.Inside(t, hosttest.Options{Name: "archive"}, "mkdir /opt/a") {
		return
	}
	gz := zipped(t, one(t))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(gz) }))
	t.Cleanup(server.Close)
	h := on(t, "/", t.TempDir())
	resourcetest.Run(t, resourcetest.Case{
		Module: func() resource.Module { return New(h) },
		Resource: func(m resource.Module) resource.Resource {
			r := m.New().(*Resource)
			r.Path, r.Owner, r.Group = "/opt/a/x", "daemon", "daemon"
			r.File = fetch.File{URL: server.URL + "/x", Checksum: fmt.Sprintf("sha256:%x", sha256.Sum256(gz))}
			return r
		},
		Dirs: []string{"/opt/a"},
	})
	t.Run("what a program unpacks that is not there is told", func(t *testing.T) {
		s := &scene{t: t, host: h}
		s.must(os.RemoveAll("/usr/bin/zstd"))
		if err := s.converge([]byte("\x28\xb5\x2f\xfd\x04")); err == nil || !strings.Contains(err.Error(), "declare `package: zstd`") {
			t.Errorf("returned %v", err)
		}
	})
}

// FuzzUnpack holds that whatever an archive says, nothing comes to be outside of
// the directory, and nothing in it that is no file, directory or link within.
func FuzzUnpack(f *testing.F) {
	for _, data := range [][]byte{
		one(f), zipped(f, two(f)), makeZip(f, entry{name: "a", content: "1"}, entry{name: "b/l", kind: tar.TypeSymlink, target: "../a"}),
		makeTar(f, entry{name: "../x"}), makeTar(f, entry{name: "l", kind: tar.TypeSymlink, target: "a/.."}, entry{name: "l/x"}),
		makeTar(f, entry{name: "a"}, entry{name: "h", kind: tar.TypeLink, target: "a"}, entry{name: "f", kind: tar.TypeFifo}),
		packed(f, two(f), "xz"), packed(f, two(f), "zstd"),
	} {
		f.Add(data, 0)
		f.Add(data, 1)
	}
	f.Fuzz(func(t *testing.T, data []byte, strip int) {
		dir := t.TempDir()
		root := filepath.Join(dir, "root")
		if err := os.MkdirAll(root+"/opt", 0o755); err != nil {
			t.Fatal(err)
		}
		h := host.New(root, host.Options{Backups: host.OpenBackups(dir + "/backups")})
		m := New(h)
		r := m.New().(*Resource)
		r.Path, r.Wanted, r.Strip = "/opt/x", resource.Bytes(data), max(strip, 0)
		r.UnpackedLimit, r.EntriesLimit = 1<<20, 1000
		e := resourcetest.Engine{Offline: true}
		failed := e.Converge(t.Context(), m, r)
		err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			i, err := d.Info()
			if err != nil {
				return err
			}
			within := strings.HasPrefix(name, root+"/opt/x/")
			switch {
			case within && failed != nil:
				t.Errorf("%s is there after %v", name, failed)
			case !within && !slices.Contains([]string{dir, root, root + "/opt", root + "/opt/x"}, name) && !strings.HasPrefix(name, dir+"/backups"):
				t.Errorf("%s came to be", name)
			case within && i.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky|fs.ModeDevice|fs.ModeNamedPipe|fs.ModeSocket) != 0:
				t.Errorf("%s has %s", name, i.Mode())
			case within && i.Mode().Type() == fs.ModeSymlink:
				// Wherever it leads, as far as it leads anywhere, is in the directory.
				if at, err := filepath.EvalSymlinks(name); err == nil && at != root+"/opt/x" && !strings.HasPrefix(at, root+"/opt/x/") {
					t.Errorf("%s leads to %s", name, at)
				}
			case within && i.Mode().IsRegular() && i.Sys().(*syscall.Stat_t).Nlink > 1000:
				t.Errorf("%s has too many names", name)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
