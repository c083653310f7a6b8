package pkg

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // what dpkg compares by
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"trued.dev/trued/internal/host"
)

const (
	aptArchives = "/var/cache/apt/archives"
	// downloadWait is how long a mirror may take for an old package that can be
	// made from what is installed as well.
	downloadWait = time.Minute
)

// Keep puts a package away: as it was installed from, where apt still has that or
// the index does, else made from what is installed.
func (a *apt) Keep(ctx context.Context, r *record, dir string) (string, error) {
	name := fmt.Sprintf("%s_%s_%s.deb", r.Name, strings.ReplaceAll(r.Version, ":", "%3a"), r.Arch)
	file := filepath.Join(dir, name)
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err // one that was cut off
	}
	if a.fromCache(ctx, name, file) || a.fromIndex(ctx, r, dir, file) {
		return name, syncPath(file)
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := a.repack(r, file); err != nil {
		return "", errors.Join(err, os.Remove(file))
	}
	return name, nil
}

// fromCache takes the file that apt fetched.
func (a *apt) fromCache(ctx context.Context, name, file string) bool {
	have := a.h.Path(aptArchives + "/" + name)
	if os.Link(have, file) != nil {
		if copyFile(have, file) != nil {
			_ = os.Remove(file)
			return false
		}
	}
	return a.whole(ctx, file)
}

// fromIndex fetches what is still to be had, if that goes quickly.
func (a *apt) fromIndex(ctx context.Context, r *record, dir, file string) bool {
	ctx, cancel := context.WithTimeout(ctx, downloadWait)
	defer cancel()
	name := r.Name
	if r.Arch != "all" {
		name += ":" + r.Arch
	}
	c := a.command("apt-get", "-q", "download", "--", name+"="+r.Version)
	c.Dir = dir
	if _, err := a.h.Run(ctx, c); err != nil {
		return false
	}
	return a.whole(ctx, file)
}

// whole reports whether a file can be unpacked to its end, and removes it
// otherwise.
func (a *apt) whole(ctx context.Context, file string) bool {
	_, err := a.h.Run(ctx, host.Command{Args: []string{"/bin/sh", "-c", `dpkg-deb --fsys-tarfile "$1" >/dev/null`, "sh", file}})
	if err != nil {
		_ = os.Remove(file)
	}
	return err == nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from) //nolint:gosec // apt's own
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // ours
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

// A conffile is a configuration file as dpkg has it noted.
type conffile struct {
	name string
	md5  string // of what the package brought
	// obsolete is true for one that a later version of the package no longer has.
	obsolete bool
}

// conffiles reads the field of a stanza.
func (s stanza) conffiles() []conffile {
	var list []conffile
	for line := range strings.Lines(s.field("Conffiles")) {
		words := strings.Fields(line)
		if len(words) < 2 || !strings.HasPrefix(words[0], "/") {
			continue
		}
		c := conffile{name: words[0], md5: words[1]}
		for _, flag := range words[2:] {
			c.obsolete = c.obsolete || flag == "obsolete" || flag == "remove-on-upgrade"
		}
		list = append(list, c)
	}
	return list
}

// Conffiles are the paths of a package's configuration files, and of the versions
// of them that are put aside.
func (a *apt) Conffiles(r *record) ([]string, error) {
	s, err := a.stanza(r)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, c := range s.conffiles() {
		names = append(names, c.name)
		// Where dpkg, and ucf, put a version that is not the one in force.
		for _, ending := range []string{".dpkg-dist", ".dpkg-new", ".dpkg-old", ".dpkg-tmp", ".ucf-dist", ".ucf-new", ".ucf-old"} {
			names = append(names, c.name+ending)
		}
	}
	return names, nil
}

// Dropped are the configuration files that a package has no longer.
func (a *apt) Dropped(r *record) ([]string, error) {
	s, err := a.stanza(r)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, c := range s.conffiles() {
		if c.obsolete && a.untouched(c) {
			names = append(names, c.name)
		}
	}
	return names, nil
}

// untouched reports whether a configuration file is as its package brought it.
func (a *apt) untouched(c conffile) bool {
	sum := md5.New() //nolint:gosec // what dpkg compares by
	err := a.h.Read(c.name, func(r io.Reader) error {
		_, err := io.Copy(sum, r)
		return err
	})
	return err == nil && hex.EncodeToString(sum.Sum(nil)) == c.md5
}

// A stanza is what dpkg's database has of one package, as it is written.
type stanza string

// stanza returns that of a record.
func (a *apt) stanza(r *record) (stanza, error) {
	data, err := a.h.ReadFile(dpkgStatus, databaseLimit)
	if err != nil {
		return "", fmt.Errorf("cannot read package database: %w", err)
	}
	for text := range bytes.SplitSeq(data, []byte("\n\n")) {
		s := stanza(text)
		if s.field("Package") == r.Name && s.field("Architecture") == r.Arch {
			return s, nil
		}
	}
	return "", fmt.Errorf("the package database has no %q", r.Name)
}

// fields calls each for the key and the lines of every field.
func (s stanza) fields(each func(key, text string)) {
	key, text := "", ""
	for line := range strings.Lines(string(s)) {
		if strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
			text += line
			continue
		}
		if key != "" {
			each(key, text)
		}
		key, _, _ = strings.Cut(line, ":")
		text = line
	}
	if key != "" {
		each(key, text)
	}
}

// field returns the value of a field, "" where it is not there.
func (s stanza) field(name string) string {
	value := ""
	s.fields(func(key, text string) {
		if key == name {
			value = strings.TrimSpace(strings.TrimPrefix(text, name+":"))
		}
	})
	return value
}
