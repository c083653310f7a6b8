package host

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/resource"
)

// A StagedFile is a file that is ready to be put in place. It holds a
// descriptor until it is committed or aborted.
type StagedFile struct {
	host *Host
	name string
	spec FileSpec
	at   place
	old  Info // what is there, if anything
	had  bool

	mode     resource.Mode // not set: as it is
	uid, gid int           // -1: as it is

	made    []string // directories made above it
	tmp     *os.File // nil: the file is mended in place
	mine    Info     // the temporary file
	tmpName string
	closed  bool
}

// TemporaryPrefix begins the name of each temporary file. The name ends like
// the final one, for those that judge a file by its name.
const TemporaryPrefix = ".trued-"

func temporaryName(base string) string {
	random := strings.ToLower(rand.Text()[:10])
	if over := len(TemporaryPrefix) + len(random) + 1 + len(base) - unix.NAME_MAX; over > 0 {
		base = base[over:]
	}
	return TemporaryPrefix + random + "-" + base
}

// Stage prepares a file beside its final place, with owner, mode and extended
// attributes set. Content that is not given stays: then the file is mended in
// place at Commit when it has no other name, and replaced by a copy otherwise.
func (h *Host) Stage(ctx context.Context, name string, spec FileSpec) (*StagedFile, error) {
	s := &StagedFile{host: h, name: name, spec: spec}
	if err := s.prepare(ctx); err != nil {
		s.Abort()
		return nil, err
	}
	return s, nil
}

// WriteFile does all steps of a staged file at once.
func (h *Host) WriteFile(ctx context.Context, name string, spec FileSpec) error {
	s, err := h.Stage(ctx, name, spec)
	if err != nil {
		return err
	}
	if err := s.Sync(); err != nil {
		s.Abort()
		return err
	}
	if _, err := s.Commit(ctx); err != nil {
		return err
	}
	return s.Seal()
}

func (s *StagedFile) prepare(ctx context.Context) (err error) {
	s.closed = true // until there is something to close
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.uid, s.gid, err = s.host.ids(s.spec.Owner, s.spec.Group); err != nil {
		return err
	}
	if s.at, s.made, err = s.host.resolveNew(s.name, s.spec.Follow, s.spec.Parents); err != nil {
		return err
	}
	s.closed = false
	if err := s.sweep(); err != nil {
		return err
	}
	s.old, err = s.at.stat()
	s.had = err == nil
	switch {
	case errors.Is(err, unix.ENOENT):
	case err != nil:
		return explain("look at", s.name, err)
	default:
		if err := s.spec.accepts(s.name, s.old); err != nil {
			return err
		}
	}
	if s.mode = s.spec.Mode; !s.keepsFile() {
		s.mode = s.spec.newMode()
	}
	if s.mends() {
		return nil
	}
	if err := s.writeTemporary(ctx); err != nil {
		return err
	}
	if s.spec.Examine != nil && s.spec.Content != nil {
		if err := s.spec.Examine(ctx, filepath.Join(s.Dir(), s.tmpName)); err != nil {
			return err
		}
	}
	if strings.Contains(s.spec.Validate, "{path}") {
		return s.validate(ctx, s.tmpName)
	}
	return nil
}

// finalName is what the temporary file's name ends like.
func (s *StagedFile) finalName() string {
	if s.spec.Disguised {
		return s.at.base + "~"
	}
	return s.at.base
}

// sweep removes what an earlier process left here. A disguised file is written
// also while a run of another process is under way, whose files are its own.
func (s *StagedFile) sweep() error {
	if !s.spec.Disguised {
		return s.host.sweepOnce(s.at)
	}
	final := s.finalName()
	once, _ := s.host.swept.LoadOrStore(s.at.path()+"~", &sync.Once{})
	var err error
	once.(*sync.Once).Do(func() {
		_, err = s.at.sweep(func(base string) bool { return temporaryOf(base, []string{final}) })
	})
	return err
}

// keepsFile reports whether there is a file whose attributes stay.
func (s *StagedFile) keepsFile() bool { return s.had && s.old.Type() == TypeFile }

func (s *StagedFile) mends() bool {
	return s.keepsFile() && s.spec.Content == nil && (s.old.Links() == 1 || s.suits())
}

// suits reports whether the old file has the attributes that it is to have.
func (s *StagedFile) suits() bool {
	was := s.old.Mode().Bits()
	return s.mode.Or(was).Bits() == was && (s.uid < 0 || s.uid == s.old.UID()) && (s.gid < 0 || s.gid == s.old.GID())
}

// Dir is the directory that the file is in, for this process.
func (s *StagedFile) Dir() string { return s.host.Path(s.at.real) }

func (s *StagedFile) writeTemporary(ctx context.Context) error {
	var old *os.File
	if s.keepsFile() {
		f, i, err := s.at.open(s.name)
		if err != nil {
			return err
		}
		defer f.Close()
		old, s.old = f, i
	}
	if err := s.keepBackup(old); err != nil {
		return err
	}
	s.tmpName = temporaryName(s.finalName())
	const flags = unix.O_RDWR | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(s.at.dir, s.tmpName, flags, 0o600)
	if err != nil {
		s.tmpName = ""
		return explainAt("write", s.name, s.at, err)
	}
	s.tmp = os.NewFile(uintptr(fd), s.tmpName)
	if err := s.fill(ctx, old); err != nil {
		return explainAt("write", s.name, s.at, err)
	}
	if err := s.dress(old); err != nil {
		return explainAt("set attributes of", s.name, s.at, err)
	}
	if err := unix.Fstat(fd, &s.mine.st); err != nil {
		return explain("look at", s.name, err)
	}
	// A batch has many of these; it is opened again for Sync, if that is asked.
	return explainAt("write", s.name, s.at, s.tmp.Close())
}

// keepBackup puts the content that is to be replaced into the backup store.
func (s *StagedFile) keepBackup(old *os.File) error {
	if old == nil || s.spec.Content == nil || !s.spec.Backup || s.host.backups == nil {
		return nil
	}
	if s.spec.Sensitive {
		// What is replaced may be an earlier value of the secret. It is kept only
		// where it is what was there before.
		noted, err := s.host.notedContent(old)
		if err != nil {
			return fmt.Errorf("cannot replace %q: %w", s.name, err)
		}
		if !noted {
			return nil
		}
	}
	if err := s.host.keepFile(old, s.old, s.name, s.spec.Sensitive); err != nil {
		return err
	}
	_, err := old.Seek(0, io.SeekStart)
	return err
}

// fill writes the content: the spec's, or that of the old file.
func (s *StagedFile) fill(ctx context.Context, old *os.File) error {
	content := s.spec.Content
	var from io.Reader = strings.NewReader("")
	if content == nil && old != nil {
		same, err := s.holdsSame(old)
		if err != nil {
			return err
		}
		// Nothing is written before that is known: even a temporary name in a
		// directory of somebody else's is one that he can take away.
		if !same && !s.mayCopy() {
			return errors.New("it has other names, and may be somebody else's by one of them")
		}
		if from = old; same {
			content = s.spec.same
		}
	}
	if content != nil && s.spec.Receive != nil {
		return s.spec.Receive(ctx, s.tmp)
	}
	if content != nil {
		r, err := content.Open()
		if err != nil {
			return fmt.Errorf("cannot read its content: %w", err)
		}
		defer r.Close()
		from = r
	}
	hash := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(s.tmp, hash), &cancelled{ctx: ctx, from: from}, make([]byte, s.bufferSize()))
	sum := hex.EncodeToString(hash.Sum(nil))
	if err == nil && content != nil && (n != content.Size || sum != content.SHA256) {
		err = errors.New("its content in the source is not what it was when it was loaded")
	}
	return err
}

// bufferSize is enough for all of a small file, which most are.
func (s *StagedFile) bufferSize() int64 {
	const most = 32 << 10
	if s.spec.Content == nil {
		return most
	}
	return min(s.spec.Content.Size+1, most)
}

// holdsSame reports whether the old file has the content that it is to have.
func (s *StagedFile) holdsSame(old *os.File) (bool, error) {
	if s.spec.same == nil {
		return false, nil
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, old); err != nil {
		return false, err
	}
	_, err := old.Seek(0, io.SeekStart)
	return hex.EncodeToString(hash.Sum(nil)) == s.spec.same.SHA256, err
}

// mayCopy reports whether content that is nobody's declaration may be copied and
// get another owner and mode: an ordinary user who can link a file of root's
// here, or could when the directory was still open to all, must not get to read
// it. Nor is a copy made that nothing asks for: it would have no other name.
func (s *StagedFile) mayCopy() bool {
	const othersRead = 0o004
	was := s.old.Mode().Bits()
	tightens := s.mode.Or(was).Bits()&^was == 0 &&
		(s.uid < 0 || s.uid == s.old.UID()) && (s.gid < 0 || s.gid == s.old.GID())
	return s.at.trusted() && (was&othersRead != 0 || tightens && !s.suits())
}

// dress gives the temporary file all but its name: first the owner, since a
// change of owner strips what follows; last the mode, which also is the mask of
// an access control list.
func (s *StagedFile) dress(old *os.File) error {
	uid, gid, mode := s.uid, s.gid, s.mode
	if old != nil {
		if uid < 0 {
			uid = s.old.UID()
		}
		if gid < 0 {
			gid = s.old.GID()
		}
		mode = mode.Or(s.old.Mode().Bits())
	}
	if s.spec.Private && mode.Bits()&everyone != 0 {
		return &PrivateError{s.name, mode}
	}
	fd := int(s.tmp.Fd())
	if err := chown(fd, uid, gid); err != nil {
		return err
	}
	if old != nil {
		if err := copyXattrs(int(old.Fd()), fd); err != nil {
			return err
		}
	}
	if s.spec.Xattrs != nil {
		if err := s.spec.Xattrs.give(fd, s.spec.Sensitive); err != nil {
			return err
		}
	}
	return unix.Fchmod(fd, mode.Bits())
}

// chown changes the owner of a descriptor where it is another. Group alone is
// left to the directory when it has the setgid bit.
func chown(fd, uid, gid int) error {
	if uid < 0 && gid < 0 {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if (uid < 0 || uid == int(st.Uid)) && (gid < 0 || gid == int(st.Gid)) {
		return nil
	}
	return unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH)
}

// Sync makes the content durable.
func (s *StagedFile) Sync() error {
	if s.tmp == nil {
		return nil
	}
	f, err := place{dir: s.at.dir, base: s.tmpName}.openAgain(s.mine)
	if err != nil {
		return explain("write", s.name, errors.Unwrap(err))
	}
	defer f.Close()
	return explain("write", s.name, f.Sync())
}

// Commit puts the file in place. After an error nothing has changed and nothing
// is left of the preparation.
func (s *StagedFile) Commit(ctx context.Context) (resource.Result, error) {
	if err := s.commit(ctx); err != nil {
		s.Abort()
		return resource.Result{}, err
	}
	s.made = nil
	s.close()
	return resource.Result{}, nil
}

func (s *StagedFile) commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.tmp == nil && s.suits() {
		return nil
	}
	if s.tmp == nil {
		return s.host.mend(s.name, s.at, s.old, s.mode, s.uid, s.gid)
	}
	if err := s.unchanged(); err != nil {
		return err
	}
	if s.onTrial() {
		return s.commitValidated(ctx)
	}
	if s.had && s.old.Type() == TypeDirectory {
		if err := removeAll(s.at, s.name); err != nil {
			return err
		}
	}
	if err := unix.Renameat(s.at.dir, s.tmpName, s.at.dir, s.at.base); err != nil {
		return explainAt("replace", s.name, s.at, err)
	}
	s.tmpName = ""
	return nil
}

// unchanged reports whether the temporary file is still the one that was
// written, and what it replaces still of the same type.
func (s *StagedFile) unchanged() error {
	there, err := place{dir: s.at.dir, base: s.tmpName}.stat()
	if err != nil || !there.SameFile(s.mine) {
		return &PathError{Op: "replace", Path: s.name, Reason: "its temporary file was replaced by somebody", Err: err}
	}
	now, err := s.at.stat()
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return explain("look at", s.name, err)
	case s.had && now.Type() == s.old.Type():
		return nil
	}
	return s.spec.accepts(s.name, now)
}

// Seal makes the new name durable, or what was mended.
func (s *StagedFile) Seal() error {
	if s.tmp == nil {
		return s.host.syncFile(s.name, s.spec.Follow)
	}
	return s.host.SyncDir(s.at.real)
}

func (p place) sync() error {
	d, err := place{dir: p.dir, base: "."}.openDir()
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Abort removes the temporary file, if it is still there, and the directories
// that were made for it.
func (s *StagedFile) Abort() {
	if s.closed {
		_ = s.host.removeMade(s.made)
		s.made = nil
		return
	}
	if s.tmpName != "" {
		_ = unix.Unlinkat(s.at.dir, s.tmpName, 0)
		s.tmpName = ""
	}
	s.close()
	_ = s.host.removeMade(s.made)
	s.made = nil
}

func (s *StagedFile) close() {
	if s.closed {
		return
	}
	s.closed = true
	if s.tmp != nil {
		_ = s.tmp.Close()
	}
	s.at.close()
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
