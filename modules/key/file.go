package key

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// The fields of a difference.
const (
	fieldKeys      = "key"
	fieldMode      = "mode"
	fieldOwner     = "owner"
	fieldDirMode   = "mode:.ssh"
	fieldDirOwner  = "owner:.ssh"
	keysLimit      = 1 << 20
	keysMode       = 0o600
	directoryMode  = 0o700
	othersMayWrite = 0o022
)

// A file is the authorized_keys of a user, and what is above it.
type file struct {
	host  *host.Host
	user  host.UserEntry
	path  string
	lines []string
	// crlf and open tell how lines end: with a carriage return before the
	// newline, the last one without either.
	crlf, open bool
	exists     bool
	info       host.Info
	dirExists  bool
	dirInfo    host.Info
	home       host.Info
	homeErr    error
}

func read(c *resource.Content) (string, error) {
	r, err := c.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, keysLimit))
	return string(data), err
}

func open(h *host.Host, name string) (*file, error) {
	user, ok, err := h.FindUser(name)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, &host.UnknownUserError{Kind: "user", Name: name}
	}
	home := host.CleanPath(user.Home)
	if err := host.CheckPath("home", home); err != nil || home == "/nonexistent" {
		return nil, fmt.Errorf("user %q has no home directory to keep keys in", name)
	}
	f := &file{host: h, user: user, path: path.Join(home, ".ssh/authorized_keys")}
	f.home, f.homeErr = h.Lstat(home)
	if f.dirInfo, err = h.Lstat(path.Dir(f.path)); err == nil {
		f.dirExists = true
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if f.info, err = h.Lstat(f.path); errors.Is(err, fs.ErrNotExist) {
		return f, nil
	} else if err != nil {
		return nil, err
	}
	if f.info.Type() != host.TypeFile {
		return nil, &host.TypeError{Path: f.path, Is: f.info.Type(), Want: host.TypeFile}
	}
	f.exists = true
	data, err := h.ReadFile(f.path, keysLimit)
	if err != nil {
		return nil, err
	}
	f.take(string(data))
	return f, nil
}

func (f *file) take(text string) {
	if text == "" {
		return
	}
	f.crlf = strings.Contains(text, "\r\n")
	f.open = !strings.HasSuffix(text, "\n")
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		f.lines = append(f.lines, strings.TrimSuffix(line, "\r"))
	}
}

func (f *file) text() string {
	end := "\n"
	if f.crlf {
		end = "\r\n"
	}
	text := strings.Join(f.lines, end)
	if len(f.lines) > 0 && !f.open {
		text += end
	}
	return text
}

func (f *file) clone() *file {
	made := *f
	made.lines = slices.Clone(f.lines)
	return &made
}

// blobOf returns the key of a line, or "".
func blobOf(line string) string {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// has returns the line of a key, if there is one.
func (f *file) has(blob string) (string, bool) {
	for _, line := range f.lines {
		if blobOf(line) == blob {
			return line, true
		}
	}
	return "", false
}

// set puts a key where it was, or at the end. A key that is there twice is left
// once: sshd takes the first, with its options.
func (f *file) set(want Line) {
	done := false
	for i := 0; i < len(f.lines); i++ {
		if blobOf(f.lines[i]) != want.Blob {
			continue
		}
		if done {
			f.lines = slices.Delete(f.lines, i, i+1)
			i--
			continue
		}
		f.lines[i], done = want.Text, true
	}
	if !done {
		// A last line without a newline gets one, or two keys would be one.
		f.lines, f.open = append(f.lines, want.Text), false
	}
}

func (f *file) remove(blob string) {
	f.lines = slices.DeleteFunc(f.lines, func(line string) bool { return blobOf(line) == blob })
}

// keep removes all keys but some. Remarks stay.
func (f *file) keep(wanted func(blob string) bool) {
	f.lines = slices.DeleteFunc(f.lines, func(line string) bool {
		trimmed := strings.TrimSpace(line)
		return trimmed != "" && !strings.HasPrefix(trimmed, "#") && !wanted(blobOf(line))
	})
}

func textOf(s string) host.Text {
	sum := sha256.Sum256([]byte(s))
	return host.Text{Data: []byte(s), Size: int64(len(s)), SHA256: hex.EncodeToString(sum[:])}
}

// A HomeError is a home directory in which somebody else could change the keys.
type HomeError struct {
	Path, Reason string
}

func (e *HomeError) Error() string {
	return fmt.Sprintf("%s %s: sshd takes no keys from it, and no key is put there", e.Path, e.Reason)
}

// A MissingHomeError is a home directory that is not there.
type MissingHomeError struct {
	Path, User string
}

func (e *MissingHomeError) Error() string {
	return fmt.Sprintf("home directory %s of user %q is missing", e.Path, e.User)
}

// refusal returns an error where another user could let somebody in.
func (f *file) refusal() error {
	home := host.CleanPath(f.user.Home)
	if f.homeErr != nil {
		if errors.Is(f.homeErr, fs.ErrNotExist) {
			return &MissingHomeError{Path: home, User: f.user.Name}
		}
		return f.homeErr
	}
	// The way to the home may have links of the machine's own.
	at := f.home
	if at.Type() == host.TypeLink {
		return &HomeError{home, "is a symbolic link (the directory itself can be the home)"}
	}
	if at.Type() != host.TypeDirectory {
		return &HomeError{home, "is a " + at.Type()}
	}
	if at.UID() != f.user.UID && at.UID() != 0 {
		return &HomeError{home, fmt.Sprintf("belongs to %s", f.host.UserName(at.UID()))}
	}
	if at.Mode().Bits()&othersMayWrite != 0 {
		return &HomeError{home, fmt.Sprintf("can be written to by others than user %q (its mode is %s)", f.user.Name, at.Mode())}
	}
	if f.dirExists && f.dirInfo.Type() != host.TypeDirectory {
		return &HomeError{path.Dir(f.path), "is a " + f.dirInfo.Type()}
	}
	return nil
}

// ids are the numbers of the user, as an owner and a group.
func (f *file) ids() (owner, group string) {
	return strconv.Itoa(f.user.UID), strconv.Itoa(f.user.GID)
}

// compareModes returns how owner and mode of the file and of the directory
// differ from what sshd wants.
func (f *file) compareModes() resource.Diff {
	var diff resource.Diff
	for _, c := range []struct {
		exists            bool
		info              host.Info
		mode              uint32
		fieldM, fieldOwns string
	}{
		{f.dirExists, f.dirInfo, directoryMode, fieldDirMode, fieldDirOwner},
		{f.exists, f.info, keysMode, fieldMode, fieldOwner},
	} {
		want := resource.NewMode(c.mode)
		if !c.exists {
			diff = append(diff, resource.Change{Field: c.fieldM, New: want.String()},
				resource.Change{Field: c.fieldOwns, New: f.user.Name})
			continue
		}
		if c.info.Mode() != want {
			diff = append(diff, resource.Change{Field: c.fieldM, Old: c.info.Mode().String(), New: want.String()})
		}
		if c.info.UID() != f.user.UID {
			diff = append(diff, resource.Change{Field: c.fieldOwns, Old: f.host.UserName(c.info.UID()), New: f.user.Name})
		}
	}
	return diff
}

// write brings about what the difference states.
func (f *file) write(ctx context.Context, diff resource.Diff, sensitive bool) error {
	owner, group := f.ids()
	dir := path.Dir(f.path)
	if !f.dirExists && len(f.lines) > 0 {
		if err := f.host.Mkdir(dir, host.Ownership{Mode: resource.NewMode(directoryMode), Owner: owner, Group: group}); err != nil {
			return err
		}
		if err := f.host.SyncDir(path.Dir(dir)); err != nil {
			return err
		}
	} else if diff.Has(fieldDirMode) || diff.Has(fieldDirOwner) {
		how := host.Ownership{}
		if diff.Has(fieldDirMode) {
			how.Mode = resource.NewMode(directoryMode)
		}
		if diff.Has(fieldDirOwner) {
			how.Owner = owner
		}
		if err := f.host.SetOwnership(dir, how, false); err != nil {
			return err
		}
	}
	spec := host.FileSpec{Sensitive: sensitive}
	if diff.Has(fieldKeys) {
		spec.Content = resource.Bytes([]byte(f.text()))
	}
	if diff.Has(fieldMode) || !f.exists {
		spec.Mode = resource.NewMode(keysMode)
	}
	if diff.Has(fieldOwner) || !f.exists {
		spec.Owner, spec.Group = owner, group
	}
	if spec.Content == nil && !spec.Mode.IsSet() && spec.Owner == "" {
		return nil
	}
	return f.host.WriteFile(ctx, f.path, spec)
}
