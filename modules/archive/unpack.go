package archive

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"trued.dev/trued/internal/host/edition"
	"trued.dev/trued/internal/resource"
)

// A writer takes what an archive holds, and refuses what no tree may have.
type writer interface {
	Directory(name string, mode resource.Mode) error
	File(name string, mode resource.Mode, modified time.Time, content io.Reader) error
	Link(name, target string) error
	HardLink(name, to string) error
}

// limits bound what an archive can cost, which is far less than it can say.
type limits struct {
	bytes   int64
	entries int
}

const (
	defaultBytes   = 8 << 30
	defaultEntries = 200_000
	// What unpacks to more than so much is held against the size of the archive:
	// nothing but a bomb is packed that well.
	innocent = 64 << 20
	ratio    = 300
	// What a tar has besides content for each entry.
	headers = 4 << 10
	// The longest target of a link.
	maxTarget = 4 << 10
)

// unpacking is one archive on its way into a tree.
type unpacking struct {
	ctx       context.Context
	to        writer
	strip     int
	file      func(fs.FileMode) resource.Mode
	directory func(fs.FileMode) resource.Mode

	limits  limits
	size    int64 // of the archive
	bytes   int64
	entries int
}

// run unpacks the archive, whose form its first bytes tell.
func (u *unpacking) run(from io.ReaderAt, size int64) error {
	u.size = size
	var head [512]byte
	n, err := from.ReadAt(head[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	form := packing(head[:n])
	if form == packedZip {
		return u.zip(from, size)
	}
	plain, err := u.open(form, bufio.NewReaderSize(io.NewSectionReader(from, 0, size), 1<<16))
	if err != nil {
		return err
	}
	defer plain.Close()
	all := &stream{u: u, from: edition.Reader(u.ctx, plain)}
	if err := u.tar(all); err != nil || form != packedXz && form != packedZstd {
		return err
	}
	// What is wrong with these is told at their end, which is behind that of the tar.
	_, err = io.Copy(io.Discard, all)
	return err
}

// spend counts what was unpacked.
func (u *unpacking) spend(n int64) error {
	u.bytes += n
	switch {
	case u.bytes > u.limits.bytes:
		return fmt.Errorf("it unpacks to more than %d bytes (unpacked_limit)", u.limits.bytes)
	case u.bytes > innocent && u.bytes/ratio > u.size:
		return fmt.Errorf("it unpacks to more than %d times its size, as nothing but a bomb does", ratio)
	}
	return nil
}

func (u *unpacking) count() error {
	if u.entries++; u.entries > u.limits.entries {
		return fmt.Errorf("it has more than %d entries (entries_limit)", u.limits.entries)
	}
	return u.ctx.Err()
}

// metered is content that is counted as it is read.
type metered struct {
	u    *unpacking
	from io.Reader
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.from.Read(p)
	if over := m.u.spend(int64(n)); over != nil {
		return 0, over
	}
	return n, err
}

// stream bounds all that comes out of a compressed tar, also what is skipped.
type stream struct {
	u    *unpacking
	from io.Reader
	read int64
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	s.read += int64(n)
	if most := s.u.limits.bytes + int64(s.u.limits.entries)*headers; s.read > most {
		return 0, fmt.Errorf("it unpacks to more than %d bytes (unpacked_limit)", s.u.limits.bytes)
	}
	if s.read > innocent && s.read/ratio > s.u.size {
		return 0, fmt.Errorf("it unpacks to more than %d times its size, as nothing but a bomb does", ratio)
	}
	return n, err
}

// name returns where an entry goes, "" where nothing of its name is left.
func (u *unpacking) name(given string) (string, error) {
	if path.IsAbs(given) {
		return "", fmt.Errorf("%q is an absolute name", given)
	}
	if given == "" {
		return "", errors.New("an entry has no name")
	}
	var parts []string
	for part := range strings.SplitSeq(given, "/") {
		switch part {
		case "", ".":
		case "..":
			return "", fmt.Errorf("%q leads out of the directory", given)
		default:
			parts = append(parts, part)
		}
	}
	if len(parts) <= u.strip {
		return "", nil
	}
	return strings.Join(parts[u.strip:], "/"), nil
}

func (u *unpacking) tar(from io.Reader) error {
	r := tar.NewReader(from)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := u.count(); err != nil {
			return err
		}
		name, err := u.name(h.Name)
		if err != nil {
			return err
		}
		if name == "" {
			continue
		}
		if err := u.entry(name, h, r); err != nil {
			return err
		}
	}
}

func (u *unpacking) entry(name string, h *tar.Header, content io.Reader) error {
	mode := h.FileInfo().Mode()
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		return u.to.File(name, u.file(mode), h.ModTime, &metered{u, content})
	case tar.TypeDir:
		return u.to.Directory(name, u.directory(mode))
	case tar.TypeSymlink:
		return u.to.Link(name, h.Linkname)
	case tar.TypeLink:
		to, err := u.name(h.Linkname)
		if err != nil {
			return fmt.Errorf("%q is another name of what is elsewhere: %w", name, err)
		}
		return u.to.HardLink(name, to)
	case tar.TypeChar, tar.TypeBlock:
		return fmt.Errorf("%q is a device", name)
	case tar.TypeFifo:
		return fmt.Errorf("%q is a FIFO", name)
	}
	return fmt.Errorf("%q is of a type %q that is not known", name, h.Typeflag)
}

func (u *unpacking) zip(from io.ReaderAt, size int64) error {
	r, err := zip.NewReader(from, size)
	if err != nil {
		return err
	}
	for _, f := range r.File {
		if err := u.count(); err != nil {
			return err
		}
		name, err := u.name(f.Name)
		if err != nil {
			return err
		}
		if name == "" {
			continue
		}
		if err := u.zipped(name, f); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacking) zipped(name string, f *zip.File) error {
	const encrypted = 1
	mode := f.Mode()
	switch {
	case strings.Contains(f.Name, `\`):
		return fmt.Errorf("%q has a backslash in its name", f.Name)
	case f.Flags&encrypted != 0:
		return fmt.Errorf("%q is encrypted", name)
	case mode.IsDir():
		return u.to.Directory(name, u.directory(mode))
	case !mode.IsRegular() && mode.Type() != fs.ModeSymlink:
		return fmt.Errorf("%q is neither a file nor a directory nor a link", name)
	}
	r, err := f.Open()
	if err != nil {
		return fmt.Errorf("cannot read %q: %w", name, err)
	}
	defer r.Close()
	content := &metered{u, edition.Reader(u.ctx, r)}
	if mode.IsRegular() {
		return u.to.File(name, u.file(mode), f.Modified, content)
	}
	target, err := io.ReadAll(io.LimitReader(content, maxTarget))
	if err != nil {
		return fmt.Errorf("cannot read %q: %w", name, err)
	}
	return u.to.Link(name, string(target))
}
