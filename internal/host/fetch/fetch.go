// Package fetch is what kinds whose content comes from a URL have in common: the
// attributes that say where it is and what it must be, and the way through the
// mirrors until it is had.
//
// What the file is for is the kind's to know. No byte counts before the checksum
// of all of them was right.
package fetch

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// A File is a file elsewhere, as a manifest declares it. It is embedded.
type File struct {
	URL       string        `yaml:"url" json:"-" doc:"where it is: http or https; plain http does no harm to what comes, since the checksum is that of the file, but anyone on the way can read it"`
	Mirrors   []string      `yaml:"mirrors" json:"-" doc:"further URLs of the same file, tried in turn"`
	Checksum  string        `yaml:"checksum" json:"checksum,omitempty" doc:"sha256:HEX or sha512:HEX of the file as it is on the server; mandatory with a URL"`
	TokenFile string        `yaml:"token_file" json:"-" doc:"a file of mode 0600 on the host with a bearer token, or with username a password; told to the host of each URL and to none that it redirects to"`
	Username  string        `yaml:"username" json:"-" doc:"makes token_file a password"`
	CAFile    string        `yaml:"ca_file" json:"-" doc:"certificates of the authorities to believe, in PEM, in place of the host's own"`
	SizeLimit int64         `yaml:"size_limit" json:"-" doc:"the most bytes that are taken; 4 GiB"`
	Stall     time.Duration `yaml:"stall" json:"-" doc:"how long a server may be silent before the next mirror is tried; 30s"`
}

const (
	defaultLimit = 4 << 30
	defaultStall = 30 * time.Second
	// No token and no list of authorities is larger.
	credentialLimit = 4 << 20
)

// Validate returns everything that is wrong with the attributes.
func (f *File) Validate() []error {
	var problems []error
	wrong := func(field, format string, args ...any) {
		problems = append(problems, resource.Wrong(field, format, args...))
	}
	if f.URL == "" {
		wrong("url", "is missing: say where the file is")
	} else if err := checkURL(f.URL, f.TokenFile != ""); err != nil {
		wrong("url", "%v", err)
	}
	for _, m := range f.Mirrors {
		if err := checkURL(m, f.TokenFile != ""); err != nil {
			wrong("mirrors", "%v", err)
		}
	}
	if _, _, err := f.sum(); err != nil {
		wrong("checksum", "%v", err)
	}
	if f.Username != "" && f.TokenFile == "" {
		wrong("username", "needs a token_file with the password")
	}
	for _, c := range f.files() {
		if err := host.CheckPath(c.key, c.name); err != nil {
			problems = append(problems, err)
		}
	}
	if f.SizeLimit < 0 {
		wrong("size_limit", "%d is less than nothing", f.SizeLimit)
	}
	if f.Stall < 0 {
		wrong("stall", "%s is less than no time", f.Stall)
	}
	return problems
}

// Empty reports whether nothing says where the file is.
func (f *File) Empty() bool { return f.URL == "" && len(f.Mirrors) == 0 && f.Checksum == "" }

type credential struct{ key, name string }

// files are the paths on the host that are given.
func (f *File) files() []credential {
	var given []credential
	for _, c := range []credential{{"token_file", f.TokenFile}, {"ca_file", f.CAFile}} {
		if c.name != "" {
			given = append(given, c)
		}
	}
	return given
}

// Needs puts the resource after the files that it reads on the host.
func (f *File) Needs() []resource.Need {
	var needs []resource.Need
	for _, c := range f.files() {
		name := host.CleanPath(c.name)
		needs = append(needs, resource.Need{Claim: resource.Path(name)})
		needs = append(needs, resource.ParentNeeds(name)...)
	}
	return needs
}

// Reads is what the agent reads for the resource and shows to a server that the
// resource chooses.
func (f *File) Reads() []resource.Program {
	if f.TokenFile == "" {
		return nil
	}
	return []resource.Program{{By: "token_file", Reads: host.CleanPath(f.TokenFile)}}
}

func checkURL(s string, token bool) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("is malformed") // the parser's error repeats it with its password
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%s does not begin with https:// or http://", Shown(s))
	case u.Hostname() == "":
		return fmt.Errorf("%s names no host", Shown(s))
	case u.User != nil:
		return fmt.Errorf("%s holds a user: write it as username, and the password into a token_file", Shown(s))
	case token && u.Scheme == "http" && !loopback(u.Hostname()):
		return fmt.Errorf("%s would carry the token in clear text: use https", Shown(s))
	}
	return nil
}

func loopback(name string) bool { return name == "localhost" || name == "127.0.0.1" || name == "::1" }

// Shown returns a URL as far as it may be shown: what opens doors is in its user
// or its query.
func Shown(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "(malformed URL)"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// told is Shown for an error. Of a URL that a secret may be in, its server is told.
func told(s string, sensitive bool) string {
	u, err := url.Parse(s)
	if !sensitive || err != nil {
		return Shown(s)
	}
	return u.Scheme + "://" + u.Host
}

// sum returns the words of the checksum.
func (f *File) sum() (algorithm, digest string, err error) {
	algorithm, digest, _ = strings.Cut(f.Checksum, ":")
	digest = strings.ToLower(digest)
	size := map[string]int{"sha256": sha256.Size, "sha512": sha512.Size}[algorithm]
	switch raw, err := hex.DecodeString(digest); {
	case f.Checksum == "":
		return "", "", errors.New("is missing: write sha256:HEX or sha512:HEX, as sha256sum prints it; it is what tells the right file from any other")
	case algorithm == "md5", algorithm == "sha1":
		return "", "", fmt.Errorf("%s does not tell the right file from one that was made to look like it: write sha256:HEX or sha512:HEX", algorithm)
	case size == 0:
		return "", "", fmt.Errorf("%q is no checksum: write sha256:HEX or sha512:HEX", f.Checksum)
	case err != nil || len(raw) != size:
		return "", "", fmt.Errorf("%q does not have the %d hexadecimal digits of a %s", f.Checksum, 2*size, algorithm)
	}
	return algorithm, digest, nil
}

// Short returns the checksum as people read it.
func (f *File) Short() string {
	algorithm, digest, _ := strings.Cut(f.Checksum, ":")
	return fmt.Sprintf("%s %.16s", algorithm, strings.ToLower(digest))
}

// SHA256 returns the SHA-256 that the file must have, "" when the checksum is
// another.
func (f *File) SHA256() string {
	if algorithm, digest, err := f.sum(); err == nil && algorithm == "sha256" {
		return digest
	}
	return ""
}

// Matches reports whether what a reader holds has the checksum, with its SHA-256.
func (f *File) Matches(ctx context.Context, r io.Reader) (ok bool, sum string, err error) {
	p, err := f.proof()
	if err != nil {
		return false, "", err
	}
	if _, err := io.Copy(p, &cancelled{ctx, r}); err != nil {
		return false, "", err
	}
	return p.right(), p.plain(), nil
}

// A proof hashes what is written to it.
type proof struct {
	algorithm, want string
	sha256, other   hash.Hash // other is nil where the checksum is a SHA-256
	size            int64
}

func (f *File) proof() (*proof, error) {
	algorithm, want, err := f.sum()
	p := &proof{algorithm: algorithm, want: want, sha256: sha256.New()}
	if algorithm == "sha512" {
		p.other = sha512.New()
	}
	return p, err
}

func (p *proof) Write(b []byte) (int, error) {
	p.sha256.Write(b)
	if p.other != nil {
		p.other.Write(b)
	}
	p.size += int64(len(b))
	return len(b), nil
}

func (p *proof) plain() string { return hex.EncodeToString(p.sha256.Sum(nil)) }

func (p *proof) is() string {
	if p.other != nil {
		return hex.EncodeToString(p.other.Sum(nil))
	}
	return p.plain()
}

func (p *proof) right() bool { return p.is() == p.want }

// Receive writes the file into an empty one, from the first place that has it
// right. It returns the file's SHA-256. When none has, the error names each and
// why; what is in the file then is worth nothing.
func (f *File) Receive(ctx context.Context, h *host.Host, to *os.File, sensitive bool) (sum string, err error) {
	access, err := f.access(h)
	if err != nil {
		return "", err
	}
	var failed []error
	for _, at := range append([]string{f.URL}, f.Mirrors...) {
		sum, err := f.try(ctx, h, at, access, to, sensitive)
		var own *writeError
		switch {
		case err == nil:
			return sum, nil
		case ctx.Err() != nil:
			return "", fmt.Errorf("%s: %w", told(at, sensitive), ctx.Err())
		case errors.As(err, &own):
			return "", own.error // no other server mends that
		}
		failed = append(failed, fmt.Errorf("%s: %w", told(at, sensitive), err))
	}
	if len(failed) == 1 {
		return "", failed[0]
	}
	return "", &ServersError{failed}
}

// A ServersError is a file that no server has.
type ServersError struct{ Each []error }

func (e *ServersError) Error() string {
	said := make([]string, len(e.Each))
	for i, err := range e.Each {
		said[i] = err.Error()
	}
	return strings.Join(said, "; ")
}

// Unwrap lets errors.Is find each.
func (e *ServersError) Unwrap() []error { return e.Each }

func (f *File) try(
	ctx context.Context, h *host.Host, at string, access host.Access, to *os.File, sensitive bool,
) (string, error) {
	if _, err := to.Seek(0, io.SeekStart); err != nil {
		return "", &writeError{err}
	}
	if err := to.Truncate(0); err != nil {
		return "", &writeError{err}
	}
	p, err := f.proof()
	if err != nil {
		return "", err
	}
	limit, stall := f.SizeLimit, f.Stall
	if limit == 0 {
		limit = defaultLimit
	}
	if stall == 0 {
		stall = defaultStall
	}
	w := &limited{left: limit, to: io.MultiWriter(own{to}, p)}
	if err := h.Fetcher().File(ctx, host.RemoteFile{URL: at, Access: access, Limit: limit, Idle: stall}, w); err != nil {
		return "", err
	}
	if !p.right() {
		if sensitive {
			return "", errors.New("file does not have the checksum")
		}
		return "", fmt.Errorf("file has the checksum %s:%s and not %s:%s (%d bytes came)", p.algorithm, p.is(), p.algorithm, p.want, p.size)
	}
	return p.plain(), nil
}

// A writeError is one of this machine.
type writeError struct{ error }

func (e *writeError) Unwrap() error { return e.error }

type own struct{ to io.Writer }

func (o own) Write(b []byte) (int, error) {
	n, err := o.to.Write(b)
	if err != nil {
		return n, &writeError{err}
	}
	return n, nil
}

// limited holds the process that fetches to what it was told.
type limited struct {
	left int64
	to   io.Writer
}

func (l *limited) Write(b []byte) (int, error) {
	if l.left -= int64(len(b)); l.left < 0 {
		return 0, errors.New("more came than size_limit allows")
	}
	return l.to.Write(b)
}

func (f *File) access(h *host.Host) (host.Access, error) {
	a := host.Access{Username: f.Username}
	if f.TokenFile != "" {
		data, err := h.ReadSecret(host.CleanPath(f.TokenFile), credentialLimit)
		if err != nil {
			return a, fmt.Errorf("token_file: %w", err)
		}
		if a.Token = strings.TrimSpace(string(data)); a.Token == "" {
			return a, fmt.Errorf("token_file: %q is empty", f.TokenFile)
		}
	}
	if f.CAFile != "" {
		data, err := h.ReadFile(host.CleanPath(f.CAFile), credentialLimit)
		if err != nil {
			return a, fmt.Errorf("ca_file: %w", err)
		}
		a.CA = data
	}
	return a, nil
}

// cancelled ends a copy when its context is done.
type cancelled struct {
	ctx  context.Context
	from io.Reader
}

func (c *cancelled) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.from.Read(p)
}
