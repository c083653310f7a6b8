// Package source turns a Git repository, or a plain directory, into commits
// and their trees as fs.FS.
//
// It keeps what it fetched in a store of its own that is never checked out,
// proves that a new commit descends from the applied one, and mends the store
// by fetching anew. What is in a tree, and whether its author may be trusted,
// is not its concern.
package source

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"time"

	"trued.dev/trued/internal/source/object"
	"trued.dev/trued/internal/source/remote"
)

// A Config says where desired state comes from and how it is reached.
type Config struct {
	// Name is the operator's word for the source.
	Name string
	// URL is a repository: https, http, ssh, file, a path, or user@host:path.
	URL string
	// URLs are further places of the same repository, tried in turn.
	URLs []string
	// Dir is a plain directory, in place of URL.
	Dir string

	// At most one of these; none is the server's default branch. Tag is a name
	// or a pattern, of which the highest version counts. Commit pins one.
	Branch string
	Tag    string
	Commit string

	// A credential is a file that no other user can read. A name without a
	// slash is one of systemd's credentials.
	SSHKeyFile        string
	SSHPassphraseFile string
	// KnownHostsFile holds the server's SSH keys; empty are those of the user
	// and of the machine.
	KnownHostsFile string
	// TokenFile is sent as a bearer's token, or with Username as a password.
	TokenFile string
	Username  string
	CAFile    string
	// ClientCertFile and ClientKeyFile are shown to an HTTPS server.
	ClientCertFile string
	ClientKeyFile  string
	// Proxy is a URL, or "none"; empty is what the environment says.
	Proxy string

	Limits Limits
}

// Limits bound what a server can cost. Zero values are the defaults.
type Limits struct {
	// Time is the longest fetch, Idle the longest silence within one.
	Time time.Duration
	Idle time.Duration
	// Bytes is the most that one fetch may move.
	Bytes int64
	// Object is the largest file, Tree the sum of a commit's files, Entries the
	// number of files and directories.
	Object  int64
	Tree    int64
	Entries int
	// History is the number of commits that are looked at to prove that a new
	// commit descends from the applied one.
	History int
	// Memory is the most that the process which fetches may allocate.
	Memory int64
}

// DefaultLimits suit a repository of up to some hundred megabytes.
var defaultLimits = Limits{
	Time:    10 * time.Minute,
	Idle:    30 * time.Second,
	Bytes:   1 << 30,
	Object:  100 << 20,
	Tree:    2 << 30,
	Entries: 500_000,
	History: 20_000,
	Memory:  1 << 30,
}

func (l Limits) withDefaults() Limits {
	d := defaultLimits
	return Limits{
		Time:    or(l.Time, d.Time),
		Idle:    or(l.Idle, d.Idle),
		Bytes:   or(l.Bytes, d.Bytes),
		Object:  or(l.Object, d.Object),
		Tree:    or(l.Tree, d.Tree),
		Entries: or(l.Entries, d.Entries),
		History: or(l.History, d.History),
		Memory:  or(l.Memory, d.Memory),
	}
}

func or[T int | int64 | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !c.namedByPlace() && (c.Name == "" || strings.ContainsAny(c.Name, "/\x00\n") || strings.HasPrefix(c.Name, ".")) {
		wrong("name: %q does not name a source: write a word, such as infra", c.Name)
	}
	urls := c.allURLs()
	switch {
	case c.Dir != "" && len(urls) > 0:
		wrong("dir: cannot be given together with url")
	case c.Dir == "" && len(urls) == 0:
		wrong("url: is missing: write the URL of a Git repository, or `dir:` for a plain directory")
	}
	for _, u := range urls {
		if err := c.validateURL(u); err != nil {
			errs = append(errs, err)
		}
	}
	if c.Proxy != "" && c.Proxy != "none" {
		if _, err := remote.ParseProxy(c.Proxy); err != nil {
			wrong("proxy: %w", err)
		}
	}
	chosen := 0
	for _, s := range []string{c.Branch, c.Tag, c.Commit} {
		if s != "" {
			chosen++
		}
	}
	if chosen > 1 {
		wrong("branch, tag and commit: give one of them")
	}
	if chosen > 0 && c.Dir != "" {
		wrong("dir: a plain directory has no branch, tag or commit")
	}
	if c.Commit != "" {
		if _, err := object.ParseID(c.Commit); err != nil {
			wrong("commit: %w", err)
		}
	}
	if _, err := path.Match(c.Tag, ""); err != nil {
		wrong("tag: pattern %q is malformed", c.Tag)
	}
	if (c.ClientCertFile == "") != (c.ClientKeyFile == "") {
		wrong("client_cert_file and client_key_file: give both or none")
	}
	if c.Username != "" && c.TokenFile == "" {
		wrong("username: needs a token_file with the password")
	}
	if c.SSHPassphraseFile != "" && c.SSHKeyFile == "" {
		wrong("ssh_passphrase_file: needs an ssh_key_file")
	}
	errs = append(errs, c.Limits.validate())
	return errors.Join(errs...)
}

func (c Config) validateURL(s string) error {
	u, err := remote.ParseURL(s)
	if err != nil {
		return fmt.Errorf("url: %w", err)
	}
	shown := Redact(s)
	switch u.Scheme {
	case "file", "ssh", "https":
	case "http":
		if c.TokenFile != "" && !isLoopback(u.Hostname()) {
			return fmt.Errorf("url: %s would carry the token in clear text: use https", shown)
		}
	default:
		return fmt.Errorf("url: %s cannot be fetched from: use https, ssh or a path", shown)
	}
	if _, has := u.User.Password(); has {
		return fmt.Errorf("url: %s holds a password: put it into a token_file and its user into username", shown)
	}
	if u.Scheme != "file" && u.Hostname() == "" {
		return fmt.Errorf("url: %s names no host", shown)
	}
	if u.Scheme == "https" && u.User != nil {
		return fmt.Errorf("url: %s holds a user: write it as username, or a token into a token_file", shown)
	}
	return nil
}

func isLoopback(host string) bool {
	return host == "localhost" || host == "127.0.0.1" || host == "::1"
}

func (l Limits) validate() error {
	for key, v := range map[string]int64{
		"time": int64(l.Time), "idle": int64(l.Idle), "bytes": l.Bytes, "object": l.Object,
		"tree": l.Tree, "entries": int64(l.Entries), "history": int64(l.History), "memory": l.Memory,
	} {
		if v < 0 {
			return fmt.Errorf("limits.%s: must not be negative", key)
		}
	}
	return nil
}

func (c Config) allURLs() []string {
	if c.URL == "" {
		return c.URLs
	}
	return append([]string{c.URL}, c.URLs...)
}

// pinned reports whether the configuration names one commit, which is a choice
// made on the host and needs no proof of descent.
func (c Config) pinned() bool { return c.Commit != "" }

// Redact returns a URL without user information, query and fragment.
func Redact(s string) string {
	u, err := remote.ParseURL(s)
	if err != nil {
		return "(malformed URL)"
	}
	if u.Scheme == "file" && !strings.Contains(s, "://") {
		return s
	}
	if !strings.Contains(s, "://") {
		if _, rest, ok := strings.Cut(s, "@"); ok {
			return rest
		}
		return s
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// namedByPlace reports whether nobody gave the source a name, so that it has that
// of its path or URL.
func (c Config) namedByPlace() bool {
	return c.Name != "" && (c.Name == c.Dir || c.URL != "" && c.Name == Redact(c.URL))
}

// FromArgument returns the configuration for what was given on a command line:
// a directory is taken as it is, anything else is the URL of a repository, and
// so is a bare repository. Each is a source of its own, named by its path or URL.
func FromArgument(arg string) Config {
	u, err := remote.ParseURL(arg)
	isPath := !strings.Contains(arg, "://") && (err != nil || u.Scheme == "file" || u.Scheme == "")
	if !isPath {
		return Config{Name: Redact(arg), URL: arg}
	}
	abs, err := filepath.Abs(arg)
	if err != nil {
		abs = arg
	}
	if isBare(abs) {
		return Config{Name: abs, URL: abs}
	}
	return Config{Name: abs, Dir: abs}
}
