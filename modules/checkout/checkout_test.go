package checkout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/edition"
	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
	"trued.dev/trued/internal/source"
)

// The process that fetches is the test binary itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "fetch-child" {
		if err := source.ServeFetch(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A scene is a host, and a repository that git itself serves.
type scene struct {
	t      *testing.T
	host   *host.Host
	root   string
	fetch  string
	work   string
	url    string
	asked  atomic.Int64
	engine resourcetest.Engine
}

func newScene(t *testing.T) *scene {
	t.Helper()
	dir := t.TempDir()
	s := &scene{t: t, root: dir + "/root", work: dir + "/work", fetch: dir + "/fetch", engine: resourcetest.Engine{Offline: true}}
	s.must(os.MkdirAll(s.root+"/srv", 0o755))
	s.host = on(t, s.root, dir)
	s.sh("git init -q --bare -b main ../hosts.git; git init -q -b main; git remote add origin ../hosts.git")
	out, err := exec.Command("git", "--exec-path").Output()
	s.must(err)
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"),
		Env: []string{
			"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1",
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
		},
		Stderr: io.Discard, Logger: log.New(io.Discard, "", 0),
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.url = server.URL + "/hosts.git"
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

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) sh(line string) string {
	s.t.Helper()
	s.must(os.MkdirAll(s.work, 0o755))
	cmd := exec.Command("sh", "-ec", line)
	cmd.Dir = s.work
	cmd.Env = append(os.Environ(),
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s: %v: %s", line, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit runs a line of shell in the work tree, commits and pushes all, and
// returns the commit.
func (s *scene) commit(line string) string {
	s.t.Helper()
	return s.sh(line + "\ngit add -A; git commit -qm x; git push -q --force origin HEAD:main; git rev-parse HEAD")
}

func (s *scene) resource(commit string, change ...func(*Resource)) (resource.Module, *Resource) {
	m := New(s.host)
	r := m.New().(*Resource)
	r.Path, r.URL, r.Commit = "/srv/x", s.url, commit
	for _, c := range change {
		c(r)
	}
	return m, r
}

func (s *scene) converge(commit string, change ...func(*Resource)) error {
	s.t.Helper()
	m, r := s.resource(commit, change...)
	s.must(errors.Join(s.engine.Load(r), r.Validate()))
	if err := s.engine.Converge(s.t.Context(), m, r); err != nil {
		return err
	}
	found, err := s.engine.Check(s.t.Context(), m, r)
	if err == nil && !found.InOrder() {
		err = fmt.Errorf("after it was applied it differs: %+v", found.Diff)
	}
	return err
}

// has fails the test unless the directory holds just that: see the kind archive.
func (s *scene) has(want map[string]string) {
	s.t.Helper()
	got := map[string]string{}
	err := fs.WalkDir(os.DirFS(s.root+"/srv/x"), ".", func(name string, d fs.DirEntry, err error) error {
		at := filepath.Join(s.root, "srv/x", name)
		switch {
		case err != nil || d.IsDir():
			return err
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(at)
			got[name] = "-> " + target
			return err
		}
		data, err := os.ReadFile(at)
		got[name] = string(data)
		return err
	})
	s.must(err)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Errorf("it holds %q, want %q", got, want)
	}
	for _, dir := range []string{s.root + "/srv", s.fetch} {
		entries, err := os.ReadDir(dir)
		s.must(err)
		for _, e := range entries {
			if e.Name() != "x" {
				s.t.Errorf("%s was left in %s", e.Name(), dir)
			}
		}
	}
}

const files = `echo 1 >a; mkdir -p sub; echo '#!1' >sub/run; chmod 755 sub/run; ln -sfn ../a sub/l`

func TestCheckoutKeepsThePromisesOfAModule(t *testing.T) {
	for name, c := range map[string]struct {
		had  func(s *scene)
		fill Resource
	}{
		"a commit":          {},
		"a tag":             {fill: Resource{Tag: "v1"}},
		"an annotated tag":  {fill: Resource{Tag: "v1-signed"}},
		"an owner":          {fill: Resource{Directory: edition.Directory{Owner: fmt.Sprint(os.Geteuid()), Mode: resource.NewMode(0o750)}}},
		"nothing above it":  {fill: Resource{Path: "/opt/deep/x", Directory: edition.Directory{Parents: true}}},
		"what others have":  {had: func(s *scene) { s.must(os.MkdirAll(s.root+"/srv/x/theirs", 0o700)) }},
		"a signed tag":      {fill: Resource{Tag: "v1-signed", AllowedSigners: "/etc/signers"}},
		"what is sensitive": {fill: Resource{Meta: resource.Meta{Sensitive: true}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			commit := s.commit(files + "; echo s3cr3t >s")
			s.keys()
			s.sh("git tag v1; git " + s.by("ada") + " tag -s -m x v1-signed; git push -q --tags origin")
			s.must(os.MkdirAll(s.root+"/etc", 0o755))
			s.must(os.WriteFile(s.root+"/etc/signers", []byte(s.sh("cat ../signers")), 0o600))
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
					filled.host, filled.URL, filled.Commit = r.host, s.url, commit
					if filled.Path == "" {
						filled.Path = "/srv/x"
					}
					*r = filled
					return r
				},
				Dirs: []string{s.root}, Offline: true, Secret: secret,
			})
		})
	}
}

func TestAnotherCommitTakesThePlaceOfTheWhole(t *testing.T) {
	s := newScene(t)
	first := s.commit(files)
	s.must(s.converge(first))
	s.has(map[string]string{"a": "1\n", "sub/run": "#!1\n", "sub/l": "-> ../a"})
	if i, err := os.Stat(s.root + "/srv/x/sub/run"); err != nil || i.Mode().Perm() != 0o755 {
		t.Errorf("what can be run has %v, error %v", i.Mode(), err)
	}
	s.must(os.WriteFile(s.root+"/srv/x/theirs", []byte("t"), 0o600))
	second := s.commit("echo 2 >a; git rm -q sub/l; echo 2 >new")
	s.must(s.converge(second))
	s.has(map[string]string{"a": "2\n", "sub/run": "#!1\n", "new": "2\n", "theirs": "t"})
	s.must(s.converge(second, func(r *Resource) { r.Purge = true }))
	s.has(map[string]string{"a": "2\n", "sub/run": "#!1\n", "new": "2\n"})
}

func TestLocalChangesAreDriftAndWhatIsInOrderAsksNoServer(t *testing.T) {
	s := newScene(t)
	commit := s.commit(files)
	s.must(s.converge(commit))
	asked := s.asked.Load()
	s.must(s.converge(commit))
	s.must(os.Chmod(s.root+"/srv/x/a", 0o600))
	s.must(s.converge(commit))
	if n := s.asked.Load(); n != asked {
		t.Errorf("the server was asked %d times more", n-asked)
	}
	s.must(os.WriteFile(s.root+"/srv/x/a", []byte("changed here"), 0o644))
	s.must(s.converge(commit))
	s.has(map[string]string{"a": "1\n", "sub/run": "#!1\n", "sub/l": "-> ../a"})
}

func TestATagThatWasMovedIsRefused(t *testing.T) {
	s := newScene(t)
	first := s.commit(files)
	s.sh("git tag v1; git push -q origin v1")
	tag := func(r *Resource) { r.Tag = "v1" }
	s.must(s.converge(first, tag))
	second := s.commit("echo evil >a")
	s.sh("git tag -f v1; git push -q --force origin v1")
	// What is in place is not asked for again.
	s.must(s.converge(first, tag))
	s.must(os.Remove(s.root + "/srv/x/a"))
	before := resourcetest.Fingerprint(t, s.root, false)
	var moved *host.TagMovedError
	if err := s.converge(first, tag); !errors.As(err, &moved) || moved.Is != second {
		t.Errorf("returned %v", err)
	}
	if after := resourcetest.Fingerprint(t, s.root, false); !slices.Equal(before, after) {
		t.Errorf("%q\nbecame %q", before, after)
	}
	s.must(s.converge(second, tag))
	s.has(map[string]string{"a": "evil\n", "sub/run": "#!1\n", "sub/l": "-> ../a"})
}

// keys makes some for SSH, and a list of one of them.
func (s *scene) keys() {
	s.t.Helper()
	s.sh(`for who in ada mallory; do ssh-keygen -q -t ed25519 -N '' -C '' -f ../$who; done
		echo "ada@example.com namespaces=\"git\" $(cat ../ada.pub)" >../signers; echo "mallory@example.com $(cat ../mallory.pub)" >../others`)
}

func (s *scene) by(who string) string {
	return "-c gpg.format=ssh -c user.signingkey=" + filepath.Dir(s.work) + "/" + who
}

func TestATagMustBeSignedByWhomAListHas(t *testing.T) {
	s := newScene(t)
	s.keys()
	s.sh(`mkdir -m 700 ../gpg
		for who in ada mallory; do
			gpg -q --batch --homedir ../gpg --passphrase '' --quick-generate-key "$who <$who@example.com>" ed25519 sign never
			printf '#!/bin/sh\nexec gpg --batch --homedir %s "$@"\n' "$PWD/../gpg" >../gpg.sh; chmod +x ../gpg.sh
		done
		gpg -q --batch --armor --homedir ../gpg --export ada >../ada.asc`)
	s.sh("ssh-keygen -q -k -f ../krl ../ada.pub")
	s.engine.Tree = os.DirFS(filepath.Dir(s.work))
	pgp := func(who string) string {
		return "-c gpg.program=" + filepath.Dir(s.work) + "/gpg.sh -c user.signingkey=" + who + "@example.com"
	}
	bySSH := func(r *Resource) { r.AllowedSigners = "signers" }
	byPGP := func(r *Resource) { r.Keyring = "ada.asc" }
	tag := func(who string) string { return "git " + who + " tag -s -m One v1" }
	rewritten := func(edit string) string {
		return tag(s.by("ada")) + "; git update-ref refs/tags/v1 $(git cat-file tag v1 | sed '" + edit + "' | git hash-object -t tag -w --stdin --literally)"
	}
	for name, c := range map[string]struct {
		tag  string
		by   func(*Resource)
		want string
	}{
		"a good one, SSH":               {tag(s.by("ada")), bySSH, ""},
		"a good one, OpenPGP":           {tag(pgp("ada")), byPGP, ""},
		"either of two lists":           {tag(pgp("ada")), func(r *Resource) { bySSH(r); byPGP(r) }, ""},
		"a name alone":                  {"git tag v1", bySSH, "a name alone"},
		"signed by nobody":              {"git tag -a -m One v1", bySSH, "it is not signed"},
		"by a stranger, SSH":            {tag(s.by("mallory")), bySSH, "is not listed"},
		"by a stranger, OpenPGP":        {tag(pgp("mallory")), byPGP, "is not in the keyring"},
		"of the other kind":             {tag(pgp("ada")), bySSH, "is not in the keyring"},
		"of another version":            {tag(s.by("ada")) + "2; git tag v1 v12", bySSH, "made under another name"},
		"that another tag leads to":     {tag(s.by("ada")) + "2; git tag -a -m Outer v1 v12", bySSH, "names a tag and no commit"},
		"whose message was changed":     {rewritten("s/^One$/Two/"), bySSH, "tampered with"},
		"with something after it":       {rewritten("$ a more"), bySSH, "there is more than it"},
		"from the future":               {"GIT_COMMITTER_DATE=2035-01-01T00:00:00Z " + tag(s.by("ada")), bySSH, "yet to come"},
		"by a key that was lost":        {tag(s.by("ada")), func(r *Resource) { bySSH(r); r.Revoked = "ada.pub" }, "is revoked"},
		"by a key of a KRL":             {tag(s.by("ada")), func(r *Resource) { bySSH(r); r.Revoked = "krl" }, "is revoked"},
		"where another key was lost":    {tag(s.by("ada")), func(r *Resource) { bySSH(r); r.Revoked = "mallory.pub" }, ""},
		"a list that lists no such key": {tag(s.by("ada")), func(r *Resource) { r.AllowedSigners = "others" }, "is not listed"},
	} {
		commit := s.commit("echo '" + name + "' >a")
		before := resourcetest.Fingerprint(t, s.root, false)
		s.sh("git tag | xargs -r git tag -d >/dev/null; git ls-remote --tags --refs -q origin | cut -f2 | xargs -r git push -q origin --delete; " + c.tag + "; git push -q --tags origin")
		err := s.converge(commit, func(r *Resource) { r.Tag = "v1"; c.by(r) })
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: returned %v, want %q", name, err, c.want)
		}
		if after := resourcetest.Fingerprint(t, s.root, false); c.want != "" && !slices.Equal(before, after) {
			t.Errorf("%s: %q\nbecame %q", name, before, after)
		}
	}
}

// Whoever can write the list says who may sign.
func TestAListThatOthersCanWriteIsNotUsed(t *testing.T) {
	s := newScene(t)
	s.keys()
	commit := s.commit(files)
	s.sh("git " + s.by("ada") + " tag -s -m One v1; git push -q --tags origin")
	s.must(os.MkdirAll(s.root+"/etc", 0o755))
	s.must(os.WriteFile(s.root+"/etc/signers", []byte(s.sh("cat ../signers")), 0o600))
	signed := func(r *Resource) { r.Tag, r.AllowedSigners = "v1", "/etc/signers" }
	s.must(os.Chmod(s.root+"/etc/signers", 0o664))
	if err := s.converge(commit, signed); err == nil || !strings.Contains(err.Error(), "written by others") {
		t.Errorf("returned %v", err)
	}
	s.must(os.Chmod(s.root+"/etc/signers", 0o644))
	s.must(s.converge(commit, signed))
	s.has(map[string]string{"a": "1\n", "sub/run": "#!1\n", "sub/l": "-> ../a"})
}

func TestACommitThatCannotBeHadChangesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		line string
		fill func(*Resource)
		says string
	}{
		"one that is not there":     {files, func(r *Resource) { r.Commit = strings.Repeat("1", 40) }, "no branch or tag points to commit"},
		"a tag that is not there":   {files, func(r *Resource) { r.Tag = "v9" }, `no tag matches "v9"`},
		"another repository":        {files, func(r *Resource) { r.URL += "x" }, "404"},
		"nobody there":              {files, func(r *Resource) { r.URL = "http://127.0.0.1:1/x.git" }, "refused"},
		"an absolute link":          {files + "; ln -s /etc/passwd l", nil, "leaves the repository"},
		"a link that goes up":       {files + "; ln -s ../../x sub/m", nil, "leaves the repository"},
		"a link up in the middle":   {files + "; ln -s sub/../a m", nil, "not in the tree"},
		"a submodule":               {files + "; git update-index --add --cacheinfo 160000,1111111111111111111111111111111111111111,mod; git commit -qm m; git update-index --skip-worktree mod", nil, "submodule"},
		"a pointer of Git LFS":      {files + "; printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\\nsize 12345\\n' >big", nil, "Git LFS"},
		"more than it may have":     {files + "; head -c 100000 /dev/urandom >big", func(r *Resource) { r.SizeLimit = 50_000 }, "50000"},
		"an authority that is none": {files, func(r *Resource) { r.URL = "https://127.0.0.1:1/x.git"; r.CAFile = "/none" }, "ca_file"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.must(s.converge(s.commit("echo before >a")))
			before := resourcetest.Fingerprint(t, s.root, false)
			fill := c.fill
			if fill == nil {
				fill = func(*Resource) {}
			}
			if err := s.converge(s.commit(c.line), fill); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("returned %v", err)
			}
			if after := resourcetest.Fingerprint(t, s.root, false); !slices.Equal(before, after) {
				t.Errorf("%q\nbecame %q", before, after)
			}
			s.has(map[string]string{"a": "before\n"})
		})
	}
}

func TestAServerThatStallsIsGivenUp(t *testing.T) {
	s := newScene(t)
	stalled := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(stalled.Close)
	err := s.converge(s.commit(files), func(r *Resource) { r.URL, r.Stall = stalled.URL+"/x.git", time.Second })
	if err == nil || !strings.Contains(err.Error(), "silent for 1s") {
		t.Errorf("returned %v", err)
	}
}

func TestWrongValuesAreNamed(t *testing.T) {
	good := Resource{Path: "/x", URL: "https://a/x.git", Commit: strings.Repeat("a", 40)}
	for name, c := range map[string]struct {
		change func(*Resource)
		field  string
	}{
		"no path":          {func(r *Resource) { r.Path = "" }, "checkout"},
		"the root":         {func(r *Resource) { r.Path = "/" }, "checkout"},
		"no URL":           {func(r *Resource) { r.URL = "" }, "url"},
		"a path":           {func(r *Resource) { r.URL = "/srv/x.git" }, "url"},
		"another scheme":   {func(r *Resource) { r.URL = "git://a/x.git" }, "url"},
		"a password":       {func(r *Resource) { r.URL = "https://u:s3cr3t@a/x.git" }, "url"},
		"a token in clear": {func(r *Resource) { r.URL, r.TokenFile = "http://a/x.git", "/t" }, "url"},
		"no commit":        {func(r *Resource) { r.Commit = "" }, "commit"},
		"half a commit":    {func(r *Resource) { r.Commit = "abcdef1" }, "commit"},
		"signers of none":  {func(r *Resource) { r.AllowedSigners = "signers" }, "tag"},
		"lost by nobody":   {func(r *Resource) { r.Revoked = "lost.pub" }, "revoked"},
		"a keyring's path": {func(r *Resource) { r.Tag, r.Keyring = "v1", "/etc/../k" }, "keyring"},
		"a pattern":        {func(r *Resource) { r.Tag = "v*" }, "tag"},
		"a user alone":     {func(r *Resource) { r.Username = "u" }, "username"},
		"a key's path":     {func(r *Resource) { r.SSHKeyFile = "key" }, "ssh_key_file"},
		"a negative size":  {func(r *Resource) { r.SizeLimit = -1 }, "size_limit"},
		"a negative stall": {func(r *Resource) { r.Stall = -1 }, "stall"},
	} {
		r := good
		c.change(&r)
		var wrong *resource.FieldError
		err := r.Validate()
		if !errors.As(err, &wrong) || wrong.Field != c.field || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: returned %v, want an error in %s", name, err, c.field)
		}
	}
	lists := fstest.MapFS{"none": {Data: []byte("# nobody\n")}, "typo": {Data: []byte("ada@example.com ssh-ed25519 AAAA\n")}}
	for name, change := range map[string]func(*Resource){
		"a list of nobody":           func(r *Resource) { r.AllowedSigners = "none" },
		"a list with a typing error": func(r *Resource) { r.AllowedSigners = "typo" },
		"a keyring that is none":     func(r *Resource) { r.Keyring = "typo" },
	} {
		r := good
		r.Tag = "v1"
		change(&r)
		engine := resourcetest.Engine{Tree: lists}
		if err := engine.Load(&r); err != nil {
			t.Fatal(err)
		}
		var wrong *resource.FieldError
		if err := r.Validate(); !errors.As(err, &wrong) || wrong.Field != "allowed_signers" && wrong.Field != "keyring" {
			t.Errorf("%s: returned %v", name, err)
		}
	}
	for _, url := range []string{"git@a:x.git", "ssh://git@a/x.git", "http://a/x.git"} {
		r := good
		if r.URL = url; r.Validate() != nil {
			t.Errorf("%s: %v", url, r.Validate())
		}
	}
}

// inside is set for the copy of this test that runs in a booted host, to what it
// is to show.
const inside = "TRUED_TEST_CHECKOUT"

// TestOnHost holds the promises of a module on a booted host, against a real Git
// server, and that a tag which was moved there is refused.
func TestOnHost(t *testing.T) {
	if what := os.Getenv(inside); what != "" {
		onHost(t, what)
		return
	}
	lab := hosttest.New(t)
	server := lab.GitServer(t)
	repo := server.Repository(t, "app")
	commit := repo.Commit(t, "one", map[string]string{"a": "1\n", "sub/b": "1\n"})
	server.Run(t, "ssh-keygen -q -t ed25519 -N '' -C '' -f /root/signer")
	repo.Git(t, "-c gpg.format=ssh -c user.signingkey=/root/signer tag -s -m One v1; git push -q origin v1")
	client := lab.Boot(t, hosttest.Options{Name: "client", Net: true})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	client.Copy(t, self, "/srv/inside.test")
	for name, content := range map[string]string{
		"/etc/x.ca": server.CA, "/etc/x.token": hosttest.GitToken, "/etc/x.key": server.NewKey(t), "/etc/x.hosts": server.KnownHosts(t),
		"/etc/x.https": repo.HTTPS(), "/etc/x.private": repo.Private(), "/etc/x.ssh": repo.SSH(), "/etc/x.commit": commit,
		"/etc/x.signers": "*@example.com " + server.Run(t, "cat /root/signer.pub") + "\n",
	} {
		client.Write(t, name, content)
	}
	client.Run(t, "chmod 600 /etc/x.*; mkdir /srv/x")
	run := func(what string) {
		t.Helper()
		out, code := client.Try(t, inside+"="+what+" /srv/inside.test -test.v -test.timeout 8m -test.run '^TestOnHost$'")
		if code != 0 || !strings.Contains(out, "--- PASS: TestOnHost ") {
			t.Errorf("inside the host, %s: exit code %d\n%s", what, code, out)
		}
	}
	run("promises")
	repo.Commit(t, "two", map[string]string{"a": "evil\n"})
	repo.Git(t, "tag -f v1; git push -q --force origin v1")
	run("moved")
}

func onHost(t *testing.T, what string) {
	read := func(name string) string {
		data, err := os.ReadFile("/etc/x." + name)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(data))
	}
	h := on(t, "/", t.TempDir())
	for name, fill := range map[string]Resource{
		"https":   {CAFile: "/etc/x.ca", Tag: "v1", AllowedSigners: "/etc/x.signers"},
		"private": {CAFile: "/etc/x.ca", TokenFile: "/etc/x.token"},
		"ssh":     {SSHKeyFile: "/etc/x.key", KnownHostsFile: "/etc/x.hosts"},
	} {
		fill.Path, fill.URL, fill.Commit, fill.Owner = "/srv/x/y", read(name), read("commit"), "daemon"
		make := func(m resource.Module) resource.Resource {
			r := m.New().(*Resource)
			filled := fill
			filled.host = r.host
			*r = filled
			return r
		}
		if what == "promises" {
			t.Run(name, func(t *testing.T) {
				resourcetest.Run(t, resourcetest.Case{
					Module: func() resource.Module { return New(h) }, Resource: make, Dirs: []string{"/srv/x"},
				})
			})
			continue
		}
		if fill.Tag == "" {
			continue
		}
		m := New(h)
		var moved *host.TagMovedError
		if err := (&resourcetest.Engine{}).Converge(t.Context(), m, make(m)); !errors.As(err, &moved) {
			t.Errorf("returned %v", err)
		}
		if left, err := os.ReadDir("/srv/x"); err != nil || len(left) > 0 {
			t.Errorf("left %v, error %v", left, err)
		}
	}
}
