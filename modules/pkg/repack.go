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
// A configuration file that somebody changed is left out. dpkg would hold what
// they wrote for the package's own, and a later version would replace it without
// a question; like this it counts as one that the package no longer has, which
// stays as it is. It is kept apart, with all other configuration files.
func (a *apt) repack(r *record, file string) error {
	s, err := a.stanza(r)
	if err != nil {
		return err
	}
	names, err := a.filesOf(r)
	if err != nil {
		return err
	}
	names, own := a.withoutChanged(names, s.conffiles())
	out, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600) //nolint:gosec // ours
	if err != nil {
		return err
	}
	defer out.Close()
	d := debWriter{f: out}
	d.bytes("debian-binary", []byte("2.0\n"))
	d.member("control.tar.gz", func(w *tar.Writer) error { return a.packControl(w, r, s, own) })
	d.member("data.tar.gz", func(w *tar.Writer) error { return a.packFiles(w, r, names) })
	if d.err != nil {
		return fmt.Errorf("cannot pack what is installed of %s: %w", r.Name, d.err)
	}
	return out.Sync()
}

// withoutChanged parts with the configuration files that somebody changed, or that
// an earlier version has left, and returns the others, too. A package of which no file would be left keeps them:
// dpkg takes one without files for one that another has replaced.
func (a *apt) withoutChanged(names []string, conffiles []conffile) (rest, own []string) {
	var all []string
	rest = names
	for _, c := range conffiles {
		if _, err := a.h.Lstat(c.name); err != nil {
			continue
		}
		if !c.obsolete {
			all = append(all, c.name)
			if a.untouched(c) {
				own = append(own, c.name)
				continue
			}
		}
		rest = slices.DeleteFunc(slices.Clone(rest), func(n string) bool { return n == c.name })
	}
	for _, name := range rest {
		if i, err := a.h.Lstat(name); err == nil && i.Type() != host.TypeDirectory && !holdsMore(rest, name) {
			return rest, own
		}
	}
	return names, all
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

// packFiles writes the files that are there; what somebody deleted stays deleted.
func (a *apt) packFiles(w *tar.Writer, r *record, names []string) error {
	aside, err := a.diversions(r)
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755}); err != nil {
		return err
	}
	for _, name := range names {
		at := name
		if other := aside[name]; other != "" {
			at = other
		}
		if err := a.packFile(w, name, at, holdsMore(names, name)); err != nil {
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

func (a *apt) packFile(w *tar.Writer, name, at string, directory bool) error {
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
	head.Typeflag, head.Size = tar.TypeReg, i.Size()
	if err := w.WriteHeader(head); err != nil {
		return err
	}
	return a.h.Read(at, func(r io.Reader) error {
		_, err := io.CopyN(w, r, head.Size)
		return err
	})
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
