package pkg

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"trued.dev/trued/internal/host"
)

const (
	dpkgInfo       = "/var/lib/dpkg/info"
	dpkgDiversions = "/var/lib/dpkg/diversions"
)

// repack makes a package from what is installed of it: its files as they are now,
// with the maintainer scripts that dpkg has kept.
//
// A configuration file that somebody changed gets an empty line more. dpkg would
// hold what they wrote for the package's own, and a later version would replace it
// without a question; like this it counts as changed, as it was. What they wrote is
// kept apart, with all other configuration files, and put over it.
func (a *apt) repack(r *record, file string) error {
	s, err := a.stanza(r)
	if err != nil {
		return err
	}
	names, err := a.filesOf(r)
	if err != nil {
		return err
	}
	p := a.packing(r, names, s.conffiles())
	out, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600) //nolint:gosec // ours
	if err != nil {
		return err
	}
	defer out.Close()
	d := debWriter{f: out}
	d.bytes("debian-binary", []byte("2.0\n"))
	d.member("control.tar.gz", func(w *tar.Writer) error { return a.packControl(w, r, s, p.conffiles) })
	d.member("data.tar.gz", func(w *tar.Writer) error { return a.packFiles(w, p) })
	if d.err != nil {
		return fmt.Errorf("cannot pack what is installed of %s: %w", r.Name, d.err)
	}
	return out.Sync()
}

// A packing is what goes into a package.
type packing struct {
	r     *record
	names []string // paths, directories included
	// conffiles are those of the paths that are configuration files, changed those
	// of them that somebody has changed.
	conffiles []string
	changed   map[string]bool
}

// packing parts with what an earlier version has left, or is no file any more:
// the package does not have it.
func (a *apt) packing(r *record, names []string, conffiles []conffile) packing {
	p := packing{r: r, names: slices.Clone(names), changed: map[string]bool{}}
	for _, c := range conffiles {
		i, err := a.h.Lstat(c.name)
		if err != nil {
			continue // what somebody deleted stays deleted
		}
		if c.obsolete || i.Type() != host.TypeFile {
			p.names = slices.DeleteFunc(p.names, func(n string) bool { return n == c.name })
			continue
		}
		p.conffiles = append(p.conffiles, c.name)
		p.changed[c.name] = !a.untouched(c)
	}
	return p
}

// filesOf are the paths that a package has, directories included.
func (a *apt) filesOf(r *record) ([]string, error) {
	data, err := a.h.ReadFile(dpkgInfo+"/"+r.Name+":"+r.Arch+".list", databaseLimit)
	if errors.Is(err, fs.ErrNotExist) {
		data, err = a.h.ReadFile(dpkgInfo+"/"+r.Name+".list", databaseLimit)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot tell the files of %s: %w", r.Name, err)
	}
	var names []string
	for line := range strings.Lines(string(data)) {
		if name := strings.TrimSuffix(line, "\n"); strings.HasPrefix(name, "/") && name != "/." {
			names = append(names, name)
		}
	}
	return names, nil
}

// diversions tells where the files of a package are that another has put aside.
func (a *apt) diversions(r *record) (map[string]string, error) {
	data, err := a.h.ReadFile(dpkgDiversions, databaseLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	lines := strings.Split(string(data), "\n")
	aside := map[string]string{}
	for i := 0; i+2 < len(lines); i += 3 {
		if lines[i+2] != r.Name {
			aside[lines[i]] = lines[i+1]
		}
	}
	return aside, nil
}

// packControl writes what dpkg keeps beside the files of a package.
func (a *apt) packControl(w *tar.Writer, r *record, s stanza, conffiles []string) error {
	var control strings.Builder
	s.fields(func(key, text string) {
		switch key {
		case "Status", "Conffiles", "Config-Version", "Triggers-Pending", "Triggers-Awaited":
		default:
			control.WriteString(strings.TrimRight(text, "\n") + "\n")
		}
	})
	put := func(name, content string, mode int64) error {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "./" + name, Mode: mode, Size: int64(len(content))}); err != nil {
			return err
		}
		_, err := io.WriteString(w, content)
		return err
	}
	if err := put("control", control.String(), 0o644); err != nil {
		return err
	}
	if len(conffiles) > 0 {
		if err := put("conffiles", strings.Join(conffiles, "\n")+"\n", 0o644); err != nil {
			return err
		}
	}
	entries, err := a.h.ReadDir(dpkgInfo)
	if err != nil {
		return err
	}
	for _, e := range entries {
		kind, ok := strings.CutPrefix(e.Name, r.Name+":"+r.Arch+".")
		if !ok {
			kind, ok = strings.CutPrefix(e.Name, r.Name+".")
		}
		if !ok || strings.Contains(kind, ".") || kind == "list" || kind == "conffiles" {
			continue
		}
		data, err := a.h.ReadFile(dpkgInfo+"/"+e.Name, databaseLimit)
		if err != nil {
			return err
		}
		if err := put(kind, string(data), int64(e.Info.Mode().Bits())); err != nil {
			return err
		}
	}
	return nil
}

// packFiles writes the files that are there.
func (a *apt) packFiles(w *tar.Writer, p packing) error {
	aside, err := a.diversions(p.r)
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755}); err != nil {
		return err
	}
	for _, name := range p.names {
		at := name
		if other := aside[name]; other != "" {
			at = other
		}
		more := ""
		if p.changed[name] {
			more = "\n"
		}
		if err := a.packFile(w, name, at, holdsMore(p.names, name), more); err != nil {
			return err
		}
	}
	return nil
}

// holdsMore reports whether others of the paths are below one, which is then a
// directory of the package, also where a link is in its place on this host.
func holdsMore(names []string, dir string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, dir+"/") })
}

// packFile writes a file, or a directory, as it is, and more at its end.
func (a *apt) packFile(w *tar.Writer, name, at string, directory bool, more string) error {
	i, err := a.h.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	head := &tar.Header{
		Name: "." + path.Clean(name), Mode: int64(i.Mode().Bits()), ModTime: i.ModTime(),
		Uid: i.UID(), Gid: i.GID(), Uname: a.h.UserName(i.UID()), Gname: a.h.GroupName(i.GID()),
		Format: tar.FormatGNU, // the only long names that dpkg knows
	}
	if directory && i.Type() == host.TypeLink {
		head.Mode, head.Uid, head.Gid, head.Uname, head.Gname = 0o755, 0, 0, "root", "root"
	}
	switch {
	case directory || i.Type() == host.TypeDirectory:
		head.Typeflag, head.Name = tar.TypeDir, head.Name+"/"
		return w.WriteHeader(head)
	case i.Type() == host.TypeLink:
		head.Typeflag, head.Linkname = tar.TypeSymlink, i.Target
		return w.WriteHeader(head)
	case i.Type() == host.TypeFile:
	default:
		return nil // a package brings none: somebody has put it there
	}
	head.Typeflag, head.Size = tar.TypeReg, i.Size()+int64(len(more))
	if err := w.WriteHeader(head); err != nil {
		return err
	}
	err = a.h.Read(at, func(r io.Reader) error {
		_, err := io.CopyN(w, r, i.Size())
		return err
	})
	if err == nil {
		_, err = io.WriteString(w, more)
	}
	return err
}

// A debWriter writes the archive of ar(1) that a package is.
type debWriter struct {
	f   *os.File
	err error
}

// arHead is the head of a member.
func arHead(name string, size int64) string {
	return fmt.Sprintf("%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644", size)
}

func (d *debWriter) bytes(name string, data []byte) {
	if d.err != nil {
		return
	}
	var b bytes.Buffer
	b.WriteString("!<arch>\n" + arHead(name, int64(len(data))))
	b.Write(data)
	_, d.err = d.f.Write(b.Bytes())
}

// member writes a compressed tar, whose size is known at its end alone.
func (d *debWriter) member(name string, fill func(*tar.Writer) error) {
	if d.err != nil {
		return
	}
	at, err := d.f.Seek(0, io.SeekCurrent)
	if err != nil {
		d.err = err
		return
	}
	if _, d.err = io.WriteString(d.f, arHead(name, 0)); d.err != nil {
		return
	}
	zip, err := gzip.NewWriterLevel(d.f, gzip.BestSpeed)
	if err != nil {
		d.err = err
		return
	}
	w := tar.NewWriter(zip)
	if d.err = errors.Join(fill(w), w.Close(), zip.Close()); d.err != nil {
		return
	}
	end, err := d.f.Seek(0, io.SeekCurrent)
	if err != nil {
		d.err = err
		return
	}
	size := end - at - int64(len(arHead(name, 0)))
	if _, d.err = d.f.WriteAt([]byte(arHead(name, size)), at); d.err == nil && size%2 == 1 {
		_, d.err = io.WriteString(d.f, "\n")
	}
}
