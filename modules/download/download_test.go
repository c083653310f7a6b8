package download

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/fetch"
	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
	"trued.dev/trued/internal/source"
)

// The process that fetches is the test binary itself, and so is an agent that is
// there to be killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "fetch-child" {
		if err := source.ServeFetch(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == "converge" {
		if err := convergeOnce(os.Args[2], os.Args[3], os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// convergeOnce is an agent with its state beside the root.
func convergeOnce(root, url, sum string) error {
	h := host.New(root, host.Options{Fetcher: source.NewFetcher(root+".fetch", []string{os.Args[0], "fetch-child"})})
	m := New(h)
	r := m.New().(*Resource)
	r.Path, r.File = "/etc/x", fetch.File{URL: url, Checksum: sum}
	e := resourcetest.Engine{Offline: true}
	return e.Converge(context.Background(), m, r)
}

// A scene is a host and a server.
type scene struct {
	t      *testing.T
	host   *host.Host
	root   string
	url    string
	asked  atomic.Int64
	engine resourcetest.Engine
	// files are what the server answers, by path: an http.HandlerFunc each.
	files sync.Map
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, engine: resourcetest.Engine{Offline: true}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		if f, ok := s.files.Load(r.URL.Path); ok {
			f.(http.HandlerFunc)(w, r)
			return
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	s.root = filepath.Join(t.TempDir(), "root")
	if err := os.MkdirAll(filepath.Join(s.root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.host = on(t, s.root)
	return s
}

// answer says what the server does when it is asked for a path. It may be asked by
// an agent that is another process.
func (s *scene) answer(path string, f http.HandlerFunc) { s.files.Store(path, f) }

func on(t *testing.T, root string) *host.Host {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return host.New(root, host.Options{
		Backups: host.OpenBackups(filepath.Join(dir, "backups")),
		Digests: host.OpenDigests(filepath.Join(dir, "digests")),
		Fetcher: source.NewFetcher(filepath.Join(dir, "fetch"), []string{self, "fetch-child"}),
	})
}

func (s *scene) serve(path string, content []byte) string {
	s.answer(path, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) })
	return s.url + path
}

func (s *scene) resource(f fetch.File) (resource.Module, *Resource) {
	m := New(s.host)
	r := m.New().(*Resource)
	r.Path, r.File = "/etc/x", f
	return m, r
}

func (s *scene) converge(f fetch.File) error {
	s.t.Helper()
	m, r := s.resource(f)
	if err := r.Validate(); err != nil {
		s.t.Fatal(err)
	}
	return s.engine.Converge(s.t.Context(), m, r)
}

func (s *scene) content() string {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(s.root, "etc/x"))
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	return string(data)
}

// bare fails the test when anything but the file is in its directory.
func (s *scene) bare() {
	s.t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.root, "etc"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "x" {
			s.t.Errorf("%s was left", e.Name())
		}
	}
}

func sum256(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }
func sum512(b []byte) string { return fmt.Sprintf("sha512:%x", sha512.Sum512(b)) }

func TestDownloadKeepsThePromisesOfAModule(t *testing.T) {
	content := []byte("what is served\n")
	for name, c := range map[string]struct {
		had  string
		sum  string
		fill Resource
	}{
		"a new file":         {sum: sum256(content)},
		"by SHA-512":         {sum: sum512(content)},
		"upper case digits":  {sum: "sha256:" + strings.ToUpper(sum256(content)[7:])},
		"other content":      {had: "before", sum: sum256(content)},
		"other, by SHA-512":  {had: "before", sum: sum512(content)},
		"another mode":       {had: string(content), sum: sum256(content), fill: Resource{Mode: resource.NewMode(0o755)}},
		"a command agrees":   {sum: sum256(content), fill: Resource{Accept: "grep served {path}"}},
		"nothing above it":   {sum: sum256(content), fill: Resource{Path: "/srv/deep/x", Parents: true}},
		"what is sensitive":  {had: "before", sum: sum256(content), fill: Resource{Meta: resource.Meta{Sensitive: true}}},
		"sensitive, SHA-512": {had: "before", sum: sum512(content), fill: Resource{Meta: resource.Meta{Sensitive: true}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			if c.had != "" {
				put(t, filepath.Join(s.root, "etc/x"), c.had)
			}
			url := s.serve("/x", content)
			secret := ""
			if c.fill.Sensitive {
				secret = string(content)
			}
			resourcetest.Run(t, resourcetest.Case{
				Module: func() resource.Module { return New(s.host) },
				Resource: func(m resource.Module) resource.Resource {
					r := m.New().(*Resource)
					filled := c.fill
					filled.host, filled.File = r.host, fetch.File{URL: url, Checksum: c.sum}
					if filled.Path == "" {
						filled.Path = "/etc/x"
					}
					*r = filled
					return r
				},
				Dirs: []string{s.root}, Offline: true, Secret: secret,
			})
		})
	}
}

func put(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestAFileThatIsRightIsNeverAskedFor(t *testing.T) {
	content := []byte("right")
	for _, sum := range []string{sum256(content), sum512(content)} {
		s := newScene(t)
		put(t, filepath.Join(s.root, "etc/x"), string(content))
		if err := s.converge(fetch.File{URL: s.url + "/x", Checksum: sum}); err != nil {
			t.Fatal(err)
		}
		if n := s.asked.Load(); n != 0 {
			t.Errorf("%s: the server was asked %d times", sum, n)
		}
	}
}

func TestAPlanAsksNoServer(t *testing.T) {
	s := newScene(t)
	put(t, filepath.Join(s.root, "etc/x"), "wrong")
	m, r := s.resource(fetch.File{URL: s.serve("/x", []byte("right")), Checksum: sum256([]byte("right"))})
	found, err := s.engine.Check(t.Context(), m, r)
	if err != nil || len(found.Diff) != 1 || !strings.HasPrefix(found.Diff[0].New, "sha256 ") {
		t.Errorf("found %+v, error %v", found.Diff, err)
	}
	if n := s.asked.Load(); n != 0 {
		t.Errorf("the server was asked %d times", n)
	}
}

func TestWhatWasLearntOfAnotherChecksumIsNotOfTheNext(t *testing.T) {
	s := newScene(t)
	first, second := []byte("first"), []byte("second")
	if err := s.converge(fetch.File{URL: s.serve("/1", first), Checksum: sum512(first)}); err != nil {
		t.Fatal(err)
	}
	if err := s.converge(fetch.File{URL: s.url + "/1", Checksum: sum512(first)}); err != nil {
		t.Fatal(err)
	}
	if err := s.converge(fetch.File{URL: s.serve("/2", second), Checksum: sum512(second)}); err != nil || s.content() != "second" {
		t.Errorf("it has %q, error %v", s.content(), err)
	}
	put(t, filepath.Join(s.root, "etc/x"), "first")
	if err := s.converge(fetch.File{URL: s.url + "/2", Checksum: sum512(second)}); err != nil || s.content() != "second" {
		t.Errorf("it has %q, error %v", s.content(), err)
	}
}

func TestNothingButTheRightFileTakesThePlace(t *testing.T) {
	good := bytes.Repeat([]byte("good "), 100_000)
	for name, c := range map[string]struct {
		serve http.HandlerFunc
		limit int64
		says  string
	}{
		"another file": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("evil")) }, 0, "has the checksum sha256:"},
		"one that is cut short": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(good)))
			_, _ = w.Write(good[:1000])
		}, 0, "cut the connection after 1000 bytes"},
		"one that is cut short and does not say how long": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(good[:300_000])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, 0, "after 300000 bytes"},
		"more than was said": {func(w http.ResponseWriter, _ *http.Request) {
			c, buf, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(buf, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n%s", good)
			_ = buf.Flush()
			_ = c.Close()
		}, 0, "(10 bytes came)"},
		"more than is allowed":          {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(good) }, 1000, "than the 1000"},
		"more than is allowed, by word": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "5000") }, 1000, "has 5000 bytes"},
		"nothing":                       {func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }, 0, "404 Not Found"},
		"an error":                      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, 0, "503 Service Unavailable"},
		"part of it":                    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(206) }, 0, "206"},
		"a way to a file": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, 0, "unsupported protocol scheme"},
		"a circle": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, 0, "too many redirections"},
		"no HTTP":  {func(w http.ResponseWriter, _ *http.Request) { hijack(w, "SSH-2.0-x\r\n") }, 0, "malformed HTTP"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			put(t, filepath.Join(s.root, "etc/x"), "before")
			s.answer("/x", c.serve)
			err := s.converge(fetch.File{URL: s.url + "/x?token=s3cr3t", Checksum: sum256(good), SizeLimit: c.limit})
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), s.url+"/x") {
				t.Errorf("returned %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("%v tells the token", err)
			}
			if s.content() != "before" {
				t.Errorf("the file has %.20q", s.content())
			}
			s.bare()
			// The next mirror makes up for it.
			if err := s.converge(fetch.File{URL: s.url + "/x", Mirrors: []string{s.serve("/good", good)}, Checksum: sum256(good)}); err != nil {
				t.Fatal(err)
			}
			if s.content() != string(good) {
				t.Errorf("the file has %.20q", s.content())
			}
			s.bare()
		})
	}
}

func hijack(w http.ResponseWriter, say string) {
	c, buf, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	_, _ = buf.WriteString(say)
	_ = buf.Flush()
	_ = c.Close()
}

func TestAServerThatStallsGivesWayToTheNext(t *testing.T) {
	good := []byte("good")
	for name, stall := range map[string]http.HandlerFunc{
		"before it answers": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"in the middle": func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte("go"))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
		"all but": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = w.Write([]byte("g"))
				w.(http.Flusher).Flush()
				time.Sleep(100 * time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.answer("/x", stall)
			f := fetch.File{URL: s.url + "/x", Checksum: sum256(good), Stall: time.Second}
			var each *fetch.ServersError
			alone := f
			alone.Mirrors = []string{s.url + "/none"}
			if err := s.converge(alone); !errors.As(err, &each) || len(each.Each) != 2 ||
				!strings.Contains(err.Error(), "404") || strings.Contains(err.Error(), "limits.") {
				t.Errorf("returned %v", err)
			}
			s.bare()
			f.Mirrors = []string{s.serve("/good", good)}
			if err := s.converge(f); err != nil || s.content() != "good" {
				t.Errorf("the file has %q, error %v", s.content(), err)
			}
			s.bare()
		})
	}
}

func TestADownloadThatIsCalledOffLeavesNothing(t *testing.T) {
	s := newScene(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.answer("/x", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("go"))
		w.(http.Flusher).Flush()
		cancel()
		<-r.Context().Done()
	})
	m, r := s.resource(fetch.File{URL: s.url + "/x", Mirrors: []string{s.serve("/y", []byte("y"))}, Checksum: sum256([]byte("y"))})
	if err := s.engine.Converge(ctx, m, r); !errors.Is(err, context.Canceled) {
		t.Errorf("returned %v", err)
	}
	if n := s.asked.Load(); n != 1 {
		t.Errorf("servers were asked %d times", n)
	}
	s.bare()
}

func TestAnAgentThatIsKilledInTheMiddleLeavesNothingAfterTheNextRun(t *testing.T) {
	content := bytes.Repeat([]byte("good"), 100_000)
	s := newScene(t)
	halfway, gone := make(chan bool, 1), make(chan bool, 1)
	s.answer("/x", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(content[:300_000])
		w.(http.Flusher).Flush()
		halfway <- true
		<-r.Context().Done()
		gone <- true
	})
	agent := exec.Command(os.Args[0], "converge", s.root, s.url+"/x", sum256(content))
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	<-halfway
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	<-gone // the process that fetched did not outlive it
	if s.content() != "" {
		t.Errorf("the file has %.20q", s.content())
	}
	s.serve("/x", content)
	if out, err := exec.Command(os.Args[0], "converge", s.root, s.url+"/x", sum256(content)).CombinedOutput(); err != nil {
		t.Fatalf("the next run: %v: %s", err, out)
	}
	if s.content() != string(content) {
		t.Errorf("the file has %.20q", s.content())
	}
	s.bare()
	if left, err := os.ReadDir(s.root + ".fetch"); err != nil || len(left) > 0 {
		t.Errorf("what was fetched by left %v, error %v", left, err)
	}
}

func TestATokenIsToldToNoOtherServer(t *testing.T) {
	content := []byte("private")
	s, other := newScene(t), newScene(t)
	var told atomic.Value
	told.Store("")
	other.answer("/x", func(w http.ResponseWriter, r *http.Request) {
		told.Store(r.Header.Get("Authorization"))
		_, _ = w.Write(content)
	})
	s.answer("/x", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer s3cr3t" {
			w.WriteHeader(401)
			return
		}
		http.Redirect(w, r, other.url+"/x", http.StatusFound)
	})
	f := fetch.File{URL: s.url + "/x", Checksum: sum256(content)}
	if err := s.converge(f); err == nil || !strings.Contains(err.Error(), "give a token_file") {
		t.Errorf("returned %v", err)
	}
	f.TokenFile = "/etc/token"
	token := filepath.Join(s.root, "etc/token")
	put(t, token, "s3cr3t\n")
	if err := s.converge(f); err == nil || !strings.Contains(err.Error(), "read by others") {
		t.Errorf("returned %v", err)
	}
	if err := os.Chmod(token, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.converge(f); err != nil || s.content() != "private" {
		t.Errorf("the file has %q, error %v", s.content(), err)
	}
	if told.Load() != "" {
		t.Errorf("another server was told %q", told.Load())
	}
}

// Some servers are opened by what is in a path.
func TestAURLWithASecretInItIsNotTold(t *testing.T) {
	s := newScene(t)
	s.answer("/s3cr3t/x", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	m, r := s.resource(fetch.File{URL: s.url + "/s3cr3t/x?s3cr3t", Mirrors: []string{"http://127.0.0.1:1/s3cr3t"}, Checksum: sum256([]byte("x"))})
	r.Sensitive = true
	err := s.engine.Converge(t.Context(), m, r)
	if err == nil || strings.Contains(err.Error(), "s3cr3t") || !strings.Contains(err.Error(), "404") || !strings.Contains(err.Error(), s.url) {
		t.Errorf("returned %v", err)
	}
}

func TestALinkOfAUsersLeadsTheDownloadNowhere(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	s := newScene(t)
	home := filepath.Join(s.root, "home")
	for _, dir := range []string{home, s.root + "/roots"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(home, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/roots", home+"/dir"); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(home+"/dir", 65534, 65534); err != nil {
		t.Fatal(err)
	}
	m, r := s.resource(fetch.File{URL: s.serve("/x", []byte("x")), Checksum: sum256([]byte("x"))})
	r.Path = "/home/dir/x"
	var hostile *host.HostileLinkError
	if err := s.engine.Converge(t.Context(), m, r); !errors.As(err, &hostile) {
		t.Errorf("returned %v", err)
	}
	if n := s.asked.Load(); n != 0 {
		t.Errorf("the server was asked %d times", n)
	}
}

func TestWhatWasThereBeforeTheFirstDownloadIsKept(t *testing.T) {
	s := newScene(t)
	put(t, filepath.Join(s.root, "etc/x"), "mine")
	one, two := []byte("one"), []byte("two")
	for _, content := range [][]byte{one, two} {
		if err := s.converge(fetch.File{URL: s.serve("/x", content), Checksum: sum256(content)}); err != nil {
			t.Fatal(err)
		}
	}
	hex := func(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }
	if !s.host.HasBackup(hex([]byte("mine"))) || s.host.HasBackup(hex(one)) {
		t.Error("not what was there before is kept, and that alone")
	}
	m, r := s.resource(fetch.File{URL: s.url + "/x", Checksum: sum256(two)})
	gone, err := s.engine.Absent(m, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.engine.Leave(t.Context(), m, r, gone); err != nil || s.content() != "mine" {
		t.Errorf("the file has %q, error %v", s.content(), err)
	}
}

func TestADiskThatIsFullIsSaidAndLeavesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount")
	}
	s := newScene(t)
	etc := filepath.Join(s.root, "etc")
	if err := unix.Mount("small", etc, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(etc, unix.MNT_DETACH) })
	put(t, filepath.Join(etc, "x"), "before")
	content := bytes.Repeat([]byte("x"), 1<<20)
	err := s.converge(fetch.File{URL: s.serve("/x", content), Mirrors: []string{s.url + "/x"}, Checksum: sum256(content)})
	if !host.OutOfSpace(err) || !strings.Contains(err.Error(), "no space is left") {
		t.Errorf("returned %v", err)
	}
	if n := s.asked.Load(); n != 1 {
		t.Errorf("servers were asked %d times", n)
	}
	if s.content() != "before" {
		t.Errorf("the file has %.20q", s.content())
	}
	s.bare()
}

func TestWrongValuesAreNamed(t *testing.T) {
	const sum = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	good := fetch.File{URL: "https://a/x", Checksum: sum}
	with := func(change func(*fetch.File)) fetch.File {
		f := good
		change(&f)
		return f
	}
	for name, c := range map[string]struct {
		fill  Resource
		field string
		says  string
	}{
		"no path":           {Resource{File: good}, "download", "empty"},
		"the root":          {Resource{Path: "/", File: good}, "download", "directory"},
		"no URL":            {Resource{Path: "/x", File: fetch.File{Checksum: sum}}, "url", "missing"},
		"another scheme":    {Resource{Path: "/x", File: with(func(f *fetch.File) { f.URL = "file:///etc/x" })}, "url", "https://"},
		"a mirror's scheme": {Resource{Path: "/x", File: with(func(f *fetch.File) { f.Mirrors = []string{"ftp://a/x"} })}, "mirrors", "https://"},
		"no host":           {Resource{Path: "/x", File: with(func(f *fetch.File) { f.URL = "https:///x" })}, "url", "no host"},
		"a password":        {Resource{Path: "/x", File: with(func(f *fetch.File) { f.URL = "https://u:s3cr3t@a/x" })}, "url", "token_file"},
		"a token in clear":  {Resource{Path: "/x", File: with(func(f *fetch.File) { f.URL, f.TokenFile = "http://a/x", "/etc/t" })}, "url", "clear text"},
		"no checksum":       {Resource{Path: "/x", File: with(func(f *fetch.File) { f.Checksum = "" })}, "checksum", "missing"},
		"a weak checksum":   {Resource{Path: "/x", File: with(func(f *fetch.File) { f.Checksum = "md5:d41d8cd98f00b204e9800998ecf8427e" })}, "checksum", "made to look like it"},
		"a bare checksum":   {Resource{Path: "/x", File: with(func(f *fetch.File) { f.Checksum = sum[7:] })}, "checksum", "no checksum"},
		"a short checksum":  {Resource{Path: "/x", File: with(func(f *fetch.File) { f.Checksum = sum[:60] })}, "checksum", "64 hexadecimal digits"},
		"a user alone":      {Resource{Path: "/x", File: with(func(f *fetch.File) { f.Username = "u" })}, "username", "token_file"},
		"a token's path":    {Resource{Path: "/x", File: with(func(f *fetch.File) { f.TokenFile = "t" })}, "token_file", "absolute"},
		"a negative size":   {Resource{Path: "/x", File: with(func(f *fetch.File) { f.SizeLimit = -1 })}, "size_limit", "less"},
		"a negative stall":  {Resource{Path: "/x", File: with(func(f *fetch.File) { f.Stall = -1 })}, "stall", "less"},
		"one for everyone":  {Resource{Path: "/x", File: good, Meta: resource.Meta{Sensitive: true}, Mode: resource.NewMode(0o644)}, "mode", "everyone"},
		"an open quote":     {Resource{Path: "/x", File: good, Accept: "a 'b"}, "validate", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var wrong *resource.FieldError
			err := c.fill.Validate()
			if !errors.As(err, &wrong) || wrong.Field != c.field || !strings.Contains(wrong.Problem, c.says) {
				t.Errorf("returned %v, want %q in %s", err, c.says, c.field)
			}
			if err != nil && strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("%v tells the password", err)
			}
		})
	}
}

// TestOnHost holds the promises of a module on a booted host.
func TestOnHost(t *testing.T) {
	if !hosttest.Inside(t, hosttest.Options{Name: "download"}, "mkdir /opt/x") {
		return
	}
	content := []byte("what is served\n")
	s := newScene(t)
	url := s.serve("/x", content)
	h := on(t, "/")
	resourcetest.Run(t, resourcetest.Case{
		Module: func() resource.Module { return New(h) },
		Resource: func(m resource.Module) resource.Resource {
			r := m.New().(*Resource)
			r.Path, r.Owner, r.Mode = "/opt/x/y", "daemon", resource.NewMode(0o750)
			r.File = fetch.File{URL: url, Checksum: sum512(content)}
			return r
		},
		Dirs: []string{"/opt/x"},
	})
}
