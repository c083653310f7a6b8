package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/secret"
	"trued.dev/trued/modules"
)

// secretFlags are those of the commands for secrets.
type secretFlags struct {
	dir        string
	identities []string
	binary     bool
	all        bool
}

func (a *app) secretCommand() *cobra.Command {
	f := &secretFlags{}
	c := &cobra.Command{
		Use:     "secret",
		GroupID: "author",
		Short:   "Encrypt files of a repository for the hosts that need them",
		Long: `Secrets are files of a repository that are encrypted with age for the hosts of
the groups that use them. ` + secret.RecipientsFile + ` says who that is, a line for each:

  # groups     public key               who
  *            age1…                    ops, who read everything
  groups/web   ssh-ed25519 AAAA…        web-1

The first word is a glob of groups, or of secrets where it ends in .age. The key of
a host is its /etc/ssh/ssh_host_ed25519_key.pub. A secret is for the hosts of its
own group, of all groups that include that one, and of those that use it.`,
	}
	c.PersistentFlags().StringVar(&f.dir, "dir", ".", "a `DIR` within the repository")
	c.AddCommand(a.secretEncryptCommand(f), a.secretEditCommand(f), a.secretRekeyCommand(f), a.secretRecipientsCommand(f))
	return c
}

func (f *secretFlags) identityFlag(c *cobra.Command) {
	c.Flags().StringArrayVarP(&f.identities, "identity", "i", nil,
		"a `FILE` with an SSH private key or age keys; ~/.ssh/id_ed25519 and ~/.config/trued/identity")
}

func (f *secretFlags) binaryFlag(c *cobra.Command) {
	c.Flags().BoolVar(&f.binary, "binary", false, "write age's binary form, in place of text")
}

func (a *app) secretEncryptCommand(f *secretFlags) *cobra.Command {
	c := &cobra.Command{
		Use:     "encrypt FILE.age",
		Short:   "Encrypt standard input into a file, for whom the repository says",
		Example: `  openssl rand -base64 24 | trued secret encrypt groups/web/secrets/db.age`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := openSecrets(f, args...)
			if err != nil {
				return err
			}
			plain, err := io.ReadAll(io.LimitReader(a.in, secret.MaxSize+1))
			if err != nil {
				return fmt.Errorf("cannot read the secret: %w", err)
			}
			if err := r.write(r.named[0], plain, !f.binary); err != nil {
				return err
			}
			a.say("%s is for %s", r.named[0].Path, readers(r.named[0].Want))
			return nil
		},
	}
	f.binaryFlag(c)
	return c
}

func (a *app) secretEditCommand(f *secretFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "edit FILE.age",
		Short: "Change what is in a secret, with $EDITOR",
		Long: `Decrypt a secret, open it in $VISUAL or $EDITOR, and encrypt what comes of it for
whom the repository says. The text is in memory alone: in a file of
$XDG_RUNTIME_DIR or /dev/shm, for as long as the editor runs.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := openSecrets(f, args...)
			if err != nil {
				return err
			}
			return a.editSecret(r, r.named[0], f)
		},
	}
	f.identityFlag(c)
	f.binaryFlag(c)
	return c
}

func (a *app) secretRekeyCommand(f *secretFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "rekey [FILE.age …]",
		Short: "Encrypt secrets anew, after " + secret.RecipientsFile + " changed",
		Long: `Decrypt each secret whose recipients are not those that the repository says, and
encrypt it for those. Who could read it once may have kept what was in it: where
somebody left, change the secret as well.`,
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := openSecrets(f, args...)
			if err != nil {
				return err
			}
			return a.rekey(r, f)
		},
	}
	c.Flags().BoolVar(&f.all, "all", false, "also those whose recipients are right")
	f.identityFlag(c)
	return c
}

func (a *app) secretRecipientsCommand(f *secretFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "recipients [FILE.age …]",
		Short: "Say who is to read each secret, and whether they can",
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := openSecrets(f, args...)
			if err != nil {
				return err
			}
			return a.listRecipients(r)
		},
	}
}

// A secretRepository is a repository whose secrets are worked on.
type secretRepository struct {
	root string
	all  []*catalog.SecretFile
	// named are those of the command line, or all.
	named []*catalog.SecretFile
}

// openSecrets finds the repository around a directory, and the files in it.
func openSecrets(f *secretFlags, names ...string) (*secretRepository, error) {
	start := f.dir
	if f.dir == "." && len(names) > 0 {
		start = filepath.Dir(names[0])
	}
	dir, err := repositoryAround(start, f.dir)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, name := range names {
		full, err := filepath.Abs(name)
		if err != nil {
			return nil, err
		}
		rel, err := filepath.Rel(dir, full)
		if err != nil || !filepath.IsLocal(rel) {
			return nil, fmt.Errorf("%q is not in the repository %q", name, dir)
		}
		if !strings.HasSuffix(rel, secret.Suffix) {
			return nil, fmt.Errorf("%q does not end in %s, by which an encrypted file is known", name, secret.Suffix)
		}
		paths = append(paths, filepath.ToSlash(rel))
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot open repository %q: %w", dir, err)
	}
	defer root.Close()
	all, err := catalog.Secrets(root.FS(), modules.All(host.New("/", host.Options{})), version, paths...)
	if err != nil {
		return nil, fmt.Errorf("repository %q: %w", dir, err)
	}
	r := &secretRepository{root: dir, all: all}
	for _, p := range paths {
		i := slices.IndexFunc(all, func(f *catalog.SecretFile) bool { return f.Path == p })
		r.named = append(r.named, all[i])
	}
	if len(paths) == 0 {
		r.named = all
	}
	return r, nil
}

// repositoryAround is the nearest directory above that has .trued or .git, or
// else the given one.
func repositoryAround(start, otherwise string) (string, error) {
	dir, err := filepath.Abs(start)
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		for _, mark := range []string{".trued", ".git"} {
			if _, err := os.Stat(filepath.Join(at, mark)); err == nil {
				return at, nil
			}
		}
		if at == filepath.Dir(at) {
			return filepath.Abs(otherwise)
		}
	}
}

// write encrypts a secret for whom the repository says, and notes that.
func (r *secretRepository) write(f *catalog.SecretFile, plain []byte, armored bool) error {
	if len(plain) > secret.MaxSize {
		return fmt.Errorf("the secret is larger than %d MiB", secret.MaxSize>>20)
	}
	if len(f.Want) == 0 {
		return fmt.Errorf("no line of %s is for %s: nobody could read it", secret.RecipientsFile, strings.Join(append(f.Groups, f.Path), " or "))
	}
	data, err := secret.Seal(plain, f.Want, armored)
	if err != nil {
		return err
	}
	name := filepath.Join(r.root, filepath.FromSlash(f.Path))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil { //nolint:gosec // a directory of a repository
		return err
	}
	if err := replaceFile(name, data); err != nil {
		return err
	}
	index := filepath.Join(r.root, filepath.FromSlash(secret.IndexFile))
	old, err := os.ReadFile(index) //nolint:gosec // the author's own repository
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	known := secret.ParseIndex(old)
	known.Put(f.Path, data, f.Want)
	if len(known) == 0 && old == nil {
		return nil
	}
	return replaceFile(index, known.Bytes())
}

// replaceFile writes a file of a repository as a whole, or not at all.
func replaceFile(name string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), ".trued-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("cannot write %q: %w", name, err)
	}
	return os.Rename(tmp.Name(), name)
}

// keys are the identities of the author.
func (f *secretFlags) keys() *secret.Keys {
	names := f.identities
	if home, err := os.UserHomeDir(); err == nil && len(names) == 0 {
		for _, name := range []string{".ssh/id_ed25519", ".config/trued/identity"} {
			if name = filepath.Join(home, name); exists(name) {
				names = append(names, name)
			}
		}
	}
	return secret.FileKeys(names)
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// read decrypts a secret.
func (f *secretFlags) read(s *catalog.SecretFile, keys *secret.Keys) ([]byte, error) {
	if s.Problem != nil {
		return nil, fmt.Errorf("%s: %w", s.Path, s.Problem)
	}
	plain, err := s.Sealed.Open(keys)
	var unreadable *secret.UnreadableError
	if errors.As(err, &unreadable) {
		return nil, fmt.Errorf("%s: %w: name your own private key with --identity", s.Path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Path, err)
	}
	return plain, nil
}

func (a *app) rekey(r *secretRepository, f *secretFlags) error {
	keys := f.keys()
	var failed []error
	done := 0
	for _, s := range r.named {
		if s.Right() && !f.all {
			continue
		}
		plain, err := f.read(s, keys)
		if err == nil {
			err = r.write(s, plain, s.Sealed.Armored)
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		done++
		a.say("%s is for %s", s.Path, readers(s.Want))
	}
	a.say("%s encrypted anew, %d right", count(done, "secret"), len(r.named)-done-len(failed))
	return errors.Join(failed...)
}

func (a *app) editSecret(r *secretRepository, s *catalog.SecretFile, f *secretFlags) error {
	var before []byte
	armored := !f.binary
	if errors.Is(s.Problem, os.ErrNotExist) {
		s.Problem = nil
	} else {
		plain, err := f.read(s, f.keys())
		if err != nil {
			return err
		}
		before, armored = plain, s.Sealed.Armored
	}
	after, err := a.edit(before, filepath.Base(strings.TrimSuffix(s.Path, secret.Suffix)))
	if err != nil {
		return err
	}
	if bytes.Equal(before, after) && s.Right() {
		a.say("nothing changed")
		return nil
	}
	if err := r.write(s, after, armored); err != nil {
		return err
	}
	a.say("%s is for %s", s.Path, readers(s.Want))
	return nil
}

// edit has the author change a text that is on no disk.
func (a *app) edit(text []byte, name string) ([]byte, error) {
	editor := os.Getenv("VISUAL")
	if editor == "" {
		editor = os.Getenv("EDITOR")
	}
	if editor == "" {
		return nil, errors.New("neither VISUAL nor EDITOR names an editor")
	}
	dir, err := os.MkdirTemp(inMemory(), "trued-secret-")
	if err != nil {
		return nil, fmt.Errorf("cannot edit in memory: %w", err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	words, err := host.SplitCommand(editor)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(words[0], append(words[1:], file)...) //nolint:gosec // the author's editor
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.in, a.out, a.err
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("the editor failed, so nothing was changed: %w", err)
	}
	return os.ReadFile(file) //nolint:gosec // made above
}

// inMemory is a directory that is on no disk and that nobody else reads.
func inMemory() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return dir
	}
	return "/dev/shm"
}

// secretJSON is a secret, for programs.
type secretJSON struct {
	Path       string   `json:"path"`
	Groups     []string `json:"groups"`
	Recipients []string `json:"recipients"`
	Missing    []string `json:"missing"`
	Extra      []string `json:"extra"`
	Problem    string   `json:"problem,omitempty"`
	Right      bool     `json:"right"`
}

func (a *app) listRecipients(r *secretRepository) error {
	list := []secretJSON{}
	right := true
	for _, f := range r.named {
		j := secretJSON{
			Path: f.Path, Groups: append([]string{}, f.Groups...), Recipients: names(f.Want),
			Missing: names(f.Missing), Extra: append([]string{}, f.Extra...), Right: f.Right(),
		}
		if f.Problem != nil {
			j.Problem = f.Problem.Error()
		}
		right = right && j.Right
		list = append(list, j)
	}
	var err error
	if a.format == "json" {
		err = a.writeJSON(list)
	} else {
		err = a.printRecipients(list)
	}
	if err == nil && !right {
		err = &codeError{exitDiffers}
	}
	return err
}

func (a *app) printRecipients(list []secretJSON) error {
	p := printer{w: a.out, c: palette(a.out)}
	for _, s := range list {
		p.line("%s  (%s)", printable(s.Path), printable(strings.Join(s.Groups, ", ")))
		for _, name := range s.Recipients {
			note := ""
			if slices.Contains(s.Missing, name) {
				note = "  cannot read it: trued secret rekey"
			}
			p.line("  %s%s", printable(name), note)
		}
		for _, name := range s.Extra {
			p.line("  %s  is not to read it: change the secret, then trued secret rekey", printable(name))
		}
		switch {
		case s.Problem != "":
			p.line("  %s", printable(s.Problem))
		case len(s.Recipients) == 0:
			p.line("  nobody: no line of %s is for it", secret.RecipientsFile)
		}
	}
	return p.err
}

func names(list []secret.Recipient) []string {
	out := []string{}
	for _, r := range list {
		out = append(out, r.String())
	}
	return out
}

func readers(list []secret.Recipient) string { return strings.Join(names(list), ", ") }
