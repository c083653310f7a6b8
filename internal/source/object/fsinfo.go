package object

import (
	"io"
	"io/fs"
	"path"
	"time"
)

type info struct {
	name string
	mode fs.FileMode
	size int64
	time time.Time
	id   ID
}

func (i *info) Name() string       { return i.name }
func (i *info) Size() int64        { return i.size }
func (i *info) Mode() fs.FileMode  { return i.mode }
func (i *info) ModTime() time.Time { return i.time }
func (i *info) IsDir() bool        { return i.mode.IsDir() }

// Sys returns the ID of the object, which is a digest of its content.
func (i *info) Sys() any { return i.id }

func (e Entry) fileMode() fs.FileMode {
	switch {
	case e.IsTree():
		return fs.ModeDir | 0o755
	case e.Mode&modeType == modeLink:
		return fs.ModeSymlink | 0o777
	case e.IsSubmodule():
		return fs.ModeIrregular | 0o755
	case e.Mode&0o111 != 0:
		return 0o755
	default:
		return 0o644
	}
}

func (f *FS) info(name string, e Entry) (fs.FileInfo, error) {
	i := &info{name: path.Base(name), mode: e.fileMode(), time: f.time, id: e.ID}
	if !e.IsTree() && !e.IsSubmodule() {
		_, size, err := f.s.Size(e.ID)
		if err != nil {
			return nil, &fs.PathError{Op: "stat", Path: name, Err: f.told(err)}
		}
		i.size = size
	}
	return i, nil
}

type dirEntry struct {
	f    *FS
	e    Entry
	name string
}

func (d *dirEntry) Name() string               { return d.e.Name }
func (d *dirEntry) IsDir() bool                { return d.e.IsTree() }
func (d *dirEntry) Type() fs.FileMode          { return d.e.fileMode().Type() }
func (d *dirEntry) Info() (fs.FileInfo, error) { return d.f.info(d.name, d.e) }
func (d *dirEntry) String() string             { return fs.FormatDirEntry(d) }

type openFile struct {
	info fs.FileInfo
	r    io.ReadCloser
}

func (o *openFile) Stat() (fs.FileInfo, error) { return o.info, nil }
func (o *openFile) Read(p []byte) (int, error) { return o.r.Read(p) }
func (o *openFile) Close() error               { return o.r.Close() }

type openDir struct {
	info    fs.FileInfo
	entries []fs.DirEntry
}

func (o *openDir) Stat() (fs.FileInfo, error) { return o.info, nil }
func (o *openDir) Close() error               { return nil }
func (o *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: o.info.Name(), Err: fs.ErrInvalid}
}

func (o *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 || n > len(o.entries) {
		if n > 0 && len(o.entries) == 0 {
			return nil, io.EOF
		}
		n = len(o.entries)
	}
	list := o.entries[:n]
	o.entries = o.entries[n:]
	return list, nil
}
