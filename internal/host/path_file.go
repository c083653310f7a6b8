package host

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/resource"
)

// A FileSpec is what a file should be. What is not given is left as it is.
type FileSpec struct {
	Content *resource.Content
	Mode    resource.Mode
	Owner   string
	Group   string

	// Follow manages what a link at the path points to.
	Follow bool
	// Force replaces a directory or a link.
	Force bool
	// Parents makes missing directories, 0755 and of the agent's own user.
	Parents bool
	// CreateOnly leaves the content of a file that is there.
	CreateOnly bool
	// Backup keeps a copy of content that is replaced.
	Backup bool
	// Sensitive keeps values out of differences and errors.
	Sensitive bool
	// Kept is true for a file that not everyone may read, of which a part is known:
	// the command that validates it may quote any of it, and is not quoted.
	Kept bool
	// Private refuses to keep a mode that lets everyone at the file.
	Private bool
	// Validate is a command that must accept the new file, with {path} for it.
	Validate string
	// ValidateAs is the user whom it is run as; empty for the agent's own.
	ValidateAs string
	// Examine, where there is one, must accept the new file beside its final
	// place, by the path that it has for this process.
	Examine func(ctx context.Context, path string) error
	// Trial, where there is one, must accept the machine with the new file in its
	// place. The old one comes back when it does not.
	Trial func(ctx context.Context) error
	// Receive writes the content into an empty file and proves it, in place of
	// opening Content. Content then has the digest alone, "" when that is not
	// known, and -1 for its size: nothing reads it to compare.
	Receive func(ctx context.Context, to *os.File) error
	// Disguised has the temporary file's name end in another way, for a directory
	// of which a program reads all files that end like this one.
	Disguised bool

	// Xattrs are those that a new file gets; nil for those of the file that it
	// replaces.
	Xattrs Xattrs

	// same is the content that the file has already, if that is known.
	same *resource.Content
}

// FieldState, and the others, are the fields of differences of a path.
const (
	FieldState   = "state"
	FieldContent = "content"
	FieldMode    = "mode"
	FieldOwner   = "owner"
	FieldGroup   = "group"
	FieldTarget  = "target"

	Absent = "absent"
)

// Only returns the spec less what the difference does not state. A file that
// is to be made is made whole.
func (s FileSpec) Only(d resource.Diff) FileSpec {
	if d.Has(FieldState) {
		return s
	}
	if !d.Has(FieldContent) {
		s.Content, s.same = nil, s.Content
	}
	if !d.Has(FieldMode) {
		s.Mode = resource.Mode{}
	}
	if !d.Has(FieldOwner) {
		s.Owner = ""
	}
	if !d.Has(FieldGroup) {
		s.Group = ""
	}
	return s
}

// newMode is the mode of a file that is made.
func (s FileSpec) newMode() resource.Mode {
	switch {
	case s.Mode.IsSet():
		return s.Mode
	case s.Sensitive:
		return resource.NewMode(0o600)
	case s.Content != nil && s.Content.Executable:
		return resource.NewMode(0o755)
	default:
		return resource.NewMode(0o644)
	}
}

// A PathFinding is what comparing a path found.
type PathFinding struct {
	Diff resource.Diff
	// Creates is true when there is nothing at the path yet.
	Creates bool
	// Prior is what is there now.
	Prior PathPrior
	// NoParent is the directory above the path that is missing and that nothing
	// in the spec makes: as it is, Stage will fail.
	NoParent string

	seen sight
}

// CompareFile compares a file with a spec. It writes nothing. When the file is
// as it was when it was last read, it costs one lstat.
func (h *Host) CompareFile(ctx context.Context, name string, spec FileSpec) (PathFinding, error) {
	if err := ctx.Err(); err != nil {
		return PathFinding{}, err
	}
	var found PathFinding
	began := time.Now()
	if i, ok := h.cached(name, spec); ok {
		found.seen = seeAll(i, began)
		found.Prior = priorOf(i)
		found.Prior.SHA256 = spec.Content.SHA256
		var err error
		found.Diff, err = h.compareOwnership(i, spec.Mode, spec.Owner, spec.Group)
		return found, err
	}
	p, err := h.resolve(name, spec.Follow)
	var missing *MissingParentError
	if errors.As(err, &missing) {
		return h.compareMissing(name, spec, missing)
	}
	if err != nil {
		return found, err
	}
	defer p.close()
	return h.compareFileAt(name, p, spec)
}

// cached returns the info of a file whose content is as the spec wants it by
// the memory of an earlier reading. Only the very inode that was read then,
// found safely, counts: a link that was planted since leads to another.
func (h *Host) cached(name string, spec FileSpec) (i Info, ok bool) {
	if spec.Content == nil || spec.Follow || spec.Sensitive || !h.digests.knows(name) || checkPath(name) != nil {
		return i, false
	}
	at := name
	if h.root != "/" {
		at = h.root + name
	}
	if unix.Lstat(at, &i.st) != nil || i.Type() != TypeFile {
		return i, false
	}
	sum, ok := h.digests.lookup(name, &i.st)
	if !ok {
		return i, false
	}
	want, ok := parseSum(spec.Content.SHA256)
	return i, ok && want == sum
}

func (h *Host) compareMissing(name string, spec FileSpec, missing *MissingParentError) (PathFinding, error) {
	found, err := h.compareNew(name, spec)
	if spec.Parents {
		found.Prior.Made = h.missingParents(name, missing)
	} else {
		found.NoParent = missing.Parent
	}
	return found, err
}

func (h *Host) compareFileAt(name string, p place, spec FileSpec) (PathFinding, error) {
	var found PathFinding
	i, err := p.stat()
	if errors.Is(err, unix.ENOENT) {
		h.digests.forget(name)
		return h.compareNew(name, spec)
	}
	if err != nil {
		return found, explain("look at", name, err)
	}
	found.Prior = priorOf(i)
	if err := spec.accepts(name, i); err != nil {
		return found, err
	}
	if i.Type() != TypeFile {
		made, err := h.compareNew(name, spec)
		found.Diff = made.Diff
		found.Diff[0].Old = i.Type()
		return found, err
	}
	if spec.Content == nil || spec.CreateOnly {
		found.seen = seeAttributes(i) // the content is never replaced, so never asked for
	} else if err := h.compareContent(name, p, spec, i, &found); err != nil {
		return found, err
	}
	if spec.Follow {
		found.seen = sight{} // the link, and the way to what it points to, were not noted
	}
	rest, err := h.compareOwnership(i, spec.Mode, spec.Owner, spec.Group)
	found.Diff = append(found.Diff, rest...)
	return found, err
}

// accepts reports whether a file may be put where i is.
func (s FileSpec) accepts(name string, i Info) error {
	switch i.Type() {
	case TypeFile:
		return nil
	case TypeLink:
		if s.Force {
			return nil
		}
		return &TypeError{Path: name, Is: "symbolic link", Want: TypeFile,
			Hint: "`follow: true` manages what it points to, `force: true` replaces it"}
	case TypeDirectory:
		if s.Force {
			return nil
		}
		return &TypeError{Path: name, Is: TypeDirectory, Want: TypeFile,
			Hint: "`force: true` removes it with all that is in it"}
	default:
		return &TypeError{Path: name, Is: i.Type(), Want: TypeFile}
	}
}

func (h *Host) compareNew(name string, spec FileSpec) (PathFinding, error) {
	found := PathFinding{Creates: true}
	found.Diff = resource.Diff{{Field: FieldState, Old: Absent, New: TypeFile}}
	if spec.Content != nil {
		after, err := wanted(spec)
		if err != nil {
			return found, fmt.Errorf("cannot read content for %q: %w", name, err)
		}
		found.Diff = append(found.Diff, spec.contentChange(name, Text{}, after))
	}
	found.Diff = append(found.Diff, resource.Change{Field: FieldMode, New: spec.newMode().String()})
	for _, o := range []struct{ field, name string }{{FieldOwner, spec.Owner}, {FieldGroup, spec.Group}} {
		if o.name != "" {
			found.Diff = append(found.Diff, resource.Change{Field: o.field, New: o.name})
		}
	}
	return found, nil
}

func (s FileSpec) contentChange(name string, before, after Text) resource.Change {
	if s.Sensitive {
		return resource.Change{Field: FieldContent, Redacted: true}
	}
	return DiffText(FieldContent, name, before, after)
}

// wanted returns the content of the spec as far as it is shown.
func wanted(spec FileSpec) (Text, error) {
	t := Text{Size: spec.Content.Size, SHA256: spec.Content.SHA256}
	if t.Size > DiffLimit || spec.Sensitive || spec.Receive != nil {
		return t, nil
	}
	r, err := spec.Content.Open()
	if err != nil {
		return t, err
	}
	defer r.Close()
	t.Data, err = io.ReadAll(io.LimitReader(r, DiffLimit))
	return t, err
}

// compareContent reads the file, which is also what notes its digest.
func (h *Host) compareContent(name string, p place, spec FileSpec, looked Info, found *PathFinding) error {
	if !spec.Backup && found.Prior.size != spec.Content.Size && spec.Content.Size > DiffLimit {
		// What is not kept and cannot be shown need not be read.
		found.Diff = append(found.Diff, spec.contentChange(name,
			Text{Size: found.Prior.size}, Text{Size: spec.Content.Size, SHA256: spec.Content.SHA256}))
		return nil
	}
	before, i, began, err := h.read(name, p, spec)
	if err != nil {
		return err
	}
	if stampOf(&looked.st) == stampOf(&i.st) {
		found.seen = seeAll(i, began)
	}
	found.Prior.SHA256 = i.returnable(before.SHA256)
	if before.SHA256 == spec.Content.SHA256 {
		if spec.Sensitive {
			found.Prior.SHA256 = "" // it would tell of the secret, which is not kept
		}
		return nil
	}
	after, err := wanted(spec)
	if err != nil {
		return fmt.Errorf("cannot read content for %q: %w", name, err)
	}
	if i.Links() > 1 && (!p.trusted() || i.returnable(before.SHA256) == "") {
		// Somebody may have given another file this name, to have it shown.
		before.Data = nil
	}
	found.Diff = append(found.Diff, spec.contentChange(name, before, after))
	return nil
}

// read returns the digest of a file and, when it is short, its content, with
// what the inode told before it was read, and when that was.
func (h *Host) read(name string, p place, spec FileSpec) (t Text, i Info, began time.Time, err error) {
	began = time.Now()
	f, i, err := p.open(name)
	if err != nil {
		return Text{}, i, began, err
	}
	defer f.Close()
	hash := sha256.New()
	short := i.Size() <= DiffLimit && !spec.Sensitive
	if short {
		all := bytes.NewBuffer(make([]byte, 0, i.Size()+bytes.MinRead))
		_, err = all.ReadFrom(io.LimitReader(f, DiffLimit+1))
		t.Data = all.Bytes()
		hash.Write(t.Data)
		short = len(t.Data) <= DiffLimit // and has not grown since
	}
	var more int64
	if err == nil && !short {
		more, err = io.Copy(hash, f)
	}
	if err != nil {
		return Text{}, i, began, explain("read", name, err)
	}
	t.Size = int64(len(t.Data)) + more
	t.SHA256 = hex.EncodeToString(hash.Sum(nil))
	if spec.Content != nil && !spec.Follow && !spec.Sensitive {
		h.digests.record(name, &i.st, began, [sha256.Size]byte(hash.Sum(nil)))
	}
	return t, i, began, nil
}

// returnable returns the digest of what can be given back later. A private file
// with other names may be root's, linked there by somebody else; given back, it
// would be a copy without other names, which nothing protects any more.
func (i Info) returnable(sum string) string {
	const othersRead = 0o004
	if i.Links() > 1 && i.Mode().Bits()&othersRead == 0 {
		return ""
	}
	return sum
}

// compareOwnership compares what a path of any type has; what is not given is
// not compared.
func (h *Host) compareOwnership(i Info, mode resource.Mode, owner, group string) (resource.Diff, error) {
	var diff resource.Diff
	if mode.IsSet() && mode != i.Mode() {
		diff = append(diff, resource.Change{Field: FieldMode, Old: i.Mode().String(), New: mode.String()})
	}
	uid, gid, err := h.expectedIDs(owner, group)
	if err != nil {
		return nil, err
	}
	if owner != "" && uid != i.UID() {
		diff = append(diff, resource.Change{Field: FieldOwner, Old: h.UserName(i.UID()), New: owner})
	}
	if group != "" && gid != i.GID() {
		diff = append(diff, resource.Change{Field: FieldGroup, Old: h.GroupName(i.GID()), New: group})
	}
	return diff, nil
}

// expectedIDs is ids for a comparison. An account that is not there may come
// before the difference is applied, with a package for example: what it is to
// own differs in any case.
func (h *Host) expectedIDs(owner, group string) (uid, gid int, err error) {
	var unknown *UnknownUserError
	if uid, _, err = h.ids(owner, ""); err != nil && !errors.As(err, &unknown) {
		return -1, -1, err
	}
	if _, gid, err = h.ids("", group); err != nil && !errors.As(err, &unknown) {
		return -1, -1, err
	}
	return uid, gid, nil
}

// ids returns the numbers of an owner and a group, -1 for what is not given.
func (h *Host) ids(owner, group string) (uid, gid int, err error) {
	uid, gid = -1, -1
	if owner != "" {
		if uid, err = h.UserID(owner); err != nil {
			return -1, -1, err
		}
	}
	if group != "" {
		if gid, err = h.GroupID(group); err != nil {
			return -1, -1, err
		}
	}
	return uid, gid, nil
}
