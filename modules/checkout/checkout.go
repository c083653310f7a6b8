// Package checkout is the kind `checkout`: a directory with the files of one
// commit of a Git repository, put in place as a whole.
//
// It is an export: there is no `.git` in it, and nothing that git would do to it.
// The commit's name is the proof of its content, and so it must be given in full.
package checkout

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/edition"
	"trued.dev/trued/internal/host/fetch"
	"trued.dev/trued/internal/resource"
)

// New returns the module for a host.
func New(h *host.Host) resource.Module { return module{host: h} }

type module struct{ host *host.Host }

func (module) Kind() string { return "checkout" }

func (m module) New() resource.Resource { return &Resource{host: m.host} }

func (m module) Absent(held resource.Held) (resource.Resource, error) {
	return edition.Absent(m.host, held)
}

// Holds implements resource.Examiner.
func (m module) Holds(ctx context.Context, name string, w resource.Witness) bool {
	return edition.Holds(ctx, m.host, name, w)
}

// Example implements resource.Exemplar.
func (module) Example() string {
	return `- checkout: /srv/app
  url: https://git.example.com/app/web.git
  tag: v1.4.2
  commit: 0f8a3c5d1e2b4a6978c0d1e2f3a4b5c6d7e8f901
  allowed_signers: files/app.signers
  token_file: /etc/trued/app.token
  owner: www-data
`
}

// A Resource is a commit's directory as a manifest declares it.
type Resource struct {
	resource.Meta `yaml:",inline"`

	Path              string        `yaml:"checkout" json:"checkout" doc:"the directory's absolute path; it is put in place as a whole, by an exchange of directories, and has no .git"`
	URL               string        `yaml:"url" json:"-" doc:"the Git repository: https, ssh or user@host:path; http does no harm to what comes, since the commit is named by its content"`
	Commit            string        `yaml:"commit" json:"commit" doc:"the commit, by its whole name of 40 digits; a branch or tag must lead to it, unless the server gives any"`
	Tag               string        `yaml:"tag" json:"-" doc:"a tag that must lead to the commit when that is fetched; one that was moved is refused"`
	AllowedSigners    string        `yaml:"allowed_signers" json:"-" doc:"who may have signed the tag by SSH, as ssh-keygen(1) has it: a file of the group's directory, or the absolute path of one that is on the host; an unsigned tag is refused when its commit is fetched"`
	Keyring           string        `yaml:"keyring" json:"-" doc:"who may have signed the tag by OpenPGP: public keys, in a file as for allowed_signers"`
	Revoked           string        `yaml:"revoked" json:"-" doc:"SSH keys that sign no tag any more, whatever lists them: public keys, or a KRL of ssh-keygen, in a file as for allowed_signers"`
	SSHKeyFile        string        `yaml:"ssh_key_file" json:"-" doc:"a file of mode 0600 on the host with a private key"`
	KnownHostsFile    string        `yaml:"known_hosts_file" json:"-" doc:"a file on the host with the SSH server's keys; else those that the agent's user and machine know"`
	TokenFile         string        `yaml:"token_file" json:"-" doc:"a file of mode 0600 on the host with a bearer token, or with username a password"`
	Username          string        `yaml:"username" json:"-" doc:"makes token_file a password"`
	CAFile            string        `yaml:"ca_file" json:"-" doc:"certificates of the authorities to believe, in PEM, in place of the host's own"`
	SizeLimit         int64         `yaml:"size_limit" json:"-" doc:"the most bytes that are taken, and that the files may have; 2 GiB, and 100 MiB for one file"`
	Stall             time.Duration `yaml:"stall" json:"-" doc:"how long the server may be silent; 30s"`
	edition.Directory `yaml:",inline"`

	host *host.Host
	// lists are the files of signers that come with the manifest, by the key.
	lists map[string][]byte
}

const (
	defaultLimit = 2 << 30
	defaultStall = 30 * time.Second
	// No credential is larger.
	credentialLimit = 4 << 20
)

// Name returns the cleaned path.
func (r *Resource) Name() string { return host.CleanPath(r.Path) }

// Validate reports what is wrong with the value in itself.
func (r *Resource) Validate() error {
	problems := r.Directory.Validate("checkout", r.Path, r.Sensitive)
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if err := r.checkURL(); err != nil {
		wrong("url", "%v", err)
	}
	switch raw, err := hex.DecodeString(r.Commit); {
	case r.Commit == "":
		wrong("commit", "is missing: write the commit's whole name, as `git rev-parse` prints it; a tag or a branch may be moved")
	case err != nil || len(raw) != 20:
		wrong("commit", "%q is not the whole name of a commit: write its 40 hexadecimal digits", r.Commit)
	}
	if (r.AllowedSigners != "" || r.Keyring != "") && r.Tag == "" {
		wrong("tag", "is missing: it is what has to be signed by whom allowed_signers or keyring lists")
	}
	if r.Revoked != "" && r.AllowedSigners == "" {
		wrong(revoked, "revokes keys of allowed_signers, which is missing")
	}
	problems = append(problems, r.checkLists()...)
	if strings.ContainsAny(r.Tag, "*?[\\ ~^:") {
		wrong("tag", "%q does not name a tag", r.Tag)
	}
	if r.Username != "" && r.TokenFile == "" {
		wrong("username", "needs a token_file with the password")
	}
	for _, c := range append(r.files(), r.listers()...) {
		if err := host.CheckPath(c.key, c.name); err != nil {
			problems = append(problems, err)
		}
	}
	if r.SizeLimit < 0 {
		wrong("size_limit", "%d is less than nothing", r.SizeLimit)
	}
	if r.Stall < 0 {
		wrong("stall", "%s is less than no time", r.Stall)
	}
	return errors.Join(problems...)
}

func (r *Resource) checkURL() error {
	if r.URL == "" {
		return errors.New("is missing: say where the repository is")
	}
	if !strings.Contains(r.URL, "://") {
		name, path, ok := strings.Cut(r.URL, ":")
		if !ok || name == "" || path == "" || strings.Contains(name, "/") {
			return fmt.Errorf("%q is no URL: write https://host/path, ssh://host/path or user@host:path", r.URL)
		}
		return nil
	}
	u, err := url.Parse(r.URL)
	if err != nil {
		return errors.New("is malformed") // the parser's error repeats it with its password
	}
	_, password := u.User.Password()
	switch {
	case u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "ssh":
		return fmt.Errorf("%s does not begin with https:// or ssh://", fetch.Shown(r.URL))
	case u.Hostname() == "":
		return fmt.Errorf("%s names no host", fetch.Shown(r.URL))
	case password, u.User != nil && u.Scheme != "ssh":
		return fmt.Errorf("%s holds a user: write it as username, and the password into a token_file", fetch.Shown(r.URL))
	case u.Scheme == "http" && r.TokenFile != "":
		return fmt.Errorf("%s would carry the token in clear text: use https", fetch.Shown(r.URL))
	}
	return nil
}

type credential struct {
	key, name string
	secret    bool
	to        func(a *host.Access, data []byte)
}

// files are the paths on the host that are given.
func (r *Resource) files() []credential {
	var given []credential
	for _, c := range []credential{
		{"ssh_key_file", r.SSHKeyFile, true, func(a *host.Access, data []byte) { a.SSHKey = data }},
		{"known_hosts_file", r.KnownHostsFile, false, func(a *host.Access, data []byte) { a.KnownHosts = data }},
		{"token_file", r.TokenFile, true, func(a *host.Access, data []byte) { a.Token = strings.TrimSpace(string(data)) }},
		{"ca_file", r.CAFile, false, func(a *host.Access, data []byte) { a.CA = data }},
	} {
		if c.name != "" {
			given = append(given, c)
		}
	}
	return given
}

func (r *Resource) access() (host.Access, error) {
	a := host.Access{Username: r.Username}
	for _, c := range r.files() {
		read := r.host.ReadFile
		if c.secret {
			read = r.host.ReadSecret
		}
		data, err := read(host.CleanPath(c.name), credentialLimit)
		if err != nil {
			return a, fmt.Errorf("%s: %w", c.key, err)
		}
		if len(data) == 0 {
			return a, fmt.Errorf("%s: %q is empty", c.key, c.name)
		}
		c.to(&a, data)
	}
	return a, nil
}

// Claims is the directory.
func (r *Resource) Claims() []resource.Claim { return []resource.Claim{resource.Path(r.Name())} }

// Writes implements resource.Writer.
func (r *Resource) Writes() []resource.Write { return r.Directory.Writes(r.Name()) }

// Runs implements resource.Runner: it has nothing run, and read what opens the
// server.
func (r *Resource) Runs() []resource.Program {
	var read []resource.Program
	for _, c := range r.files() {
		if c.secret {
			read = append(read, resource.Program{By: c.key, Reads: host.CleanPath(c.name)})
		}
	}
	return read
}

// Needs are the directories above, owner and group, and what opens the server.
func (r *Resource) Needs() []resource.Need {
	needs := r.Directory.Needs(r.Name())
	for _, c := range append(r.files(), r.listers()...) {
		name := host.CleanPath(c.name)
		needs = append(needs, resource.Need{Claim: resource.Path(name)})
		needs = append(needs, resource.ParentNeeds(name)...)
	}
	return needs
}

func (r *Resource) edition() *edition.Edition {
	commit := strings.ToLower(r.Commit)
	return &edition.Edition{
		Directory: &r.Directory, Host: r.host, Path: r.Name(), Sensitive: r.Sensitive,
		Version: commit, Shown: fmt.Sprintf("commit %.12s", commit), Fill: r.fill,
	}
}

// Check compares the directory with what was written there. It asks no server.
func (r *Resource) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	return r.edition().Check(ctx, view)
}

// Apply writes the commit's files beside the directory and exchanges the two.
func (r *Resource) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	return r.edition().Apply(ctx, view, found)
}

func (r *Resource) fill(ctx context.Context, to *host.Tree) error {
	access, err := r.access()
	if err != nil {
		return err
	}
	signed, err := r.signed()
	if err != nil {
		return err
	}
	want := host.RemoteTree{
		URL: r.URL, Commit: strings.ToLower(r.Commit), Tag: r.Tag, Signed: signed, Access: access, Limit: r.SizeLimit, Idle: r.Stall,
	}
	if want.Limit == 0 {
		want.Limit = defaultLimit
	}
	if want.Idle == 0 {
		want.Idle = defaultStall
	}
	return r.host.Fetcher().Tree(ctx, want, func(files fs.FS) error {
		err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
			if err := errors.Join(err, ctx.Err()); err != nil || name == "." {
				return err
			}
			return r.write(ctx, to, files, name, d)
		})
		if err != nil {
			return fmt.Errorf("cannot write out commit %.12s: %w", want.Commit, err)
		}
		return nil
	})
}

func (r *Resource) write(ctx context.Context, to *host.Tree, files fs.FS, name string, d fs.DirEntry) error {
	if d.IsDir() {
		return to.Directory(name, r.Folder(0o755, r.Sensitive))
	}
	if d.Type() == fs.ModeSymlink {
		target, err := fs.ReadLink(files, name)
		if err != nil {
			return err
		}
		return to.Link(name, target)
	}
	f, err := files.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return to.File(name, r.File(info.Mode(), r.Sensitive), info.ModTime(), edition.Reader(ctx, f))
}

// Watches are the directory and all that is below it.
func (r *Resource) Watches() []resource.Watch {
	return []resource.Watch{{Space: resource.WatchTree, Name: r.Name()}}
}
