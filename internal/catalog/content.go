package catalog

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"trued.dev/trued/internal/document"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/secret"
)

// content reads a resource's content from the group that names it. What is
// wrong it reports itself, at the place where the path is written.
type content struct {
	l     *loader
	built *built
	// resource is what the content is loaded for.
	resource resource.Resource
	refs     []ref
	failed   bool
	// open says which fact a template waits for.
	open string
}

var _ resource.Loader = (*content)(nil)

// from finds the attribute that a path was written in; its item's group is what
// the path is relative to.
func (c *content) from(name string) (*instance, *document.Node) {
	for _, a := range c.built.attributes {
		if n := findScalar(a.value, name); n != nil {
			return a.from, n
		}
	}
	return c.built.instance, c.built.instance.item.nameKey
}

func findScalar(n *document.Node, text string) *document.Node {
	if n.Kind == document.Scalar && n.Value == text {
		return n
	}
	for _, item := range n.Items {
		if found := findScalar(item, text); found != nil {
			return found
		}
	}
	for _, p := range n.Pairs {
		if found := findScalar(p.Value, text); found != nil {
			return found
		}
	}
	return nil
}

func (c *content) fail(in *instance, n *document.Node, name string, err error) error {
	c.failed = true
	e := Error{Origin: c.l.itemOrigin(in.item, n), Message: fmt.Sprintf("%s: %q: %s", c.built.Address, name, c.l.names.secrets.reason(err))}
	if errors.Is(err, fs.ErrNotExist) {
		e.Suggestion = c.l.nearestFile(in.item.group.path, name)
	}
	c.l.faults.add(e)
	return err
}

// nearestFile looks for what was meant beside a file that is not there.
func (l *loader) nearestFile(group, name string) string {
	full, err := within(group, name)
	if err != nil {
		return ""
	}
	entries, err := l.tree.readDir(path.Dir(full))
	if err != nil {
		return ""
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	near := document.Nearest(path.Base(full), names)
	if near == "" {
		return ""
	}
	return strings.TrimPrefix(path.Join(path.Dir(full), near), group+"/")
}

// Source returns a file as it is.
func (c *content) Source(name string) (*resource.Content, error) {
	in, n := c.from(name)
	full, err := within(in.item.group.path, name)
	if err != nil {
		return nil, c.fail(in, n, name, err)
	}
	if strings.HasSuffix(full, secret.Suffix) && !in.item.steering.Raw {
		return c.secret(in, n, name, full)
	}
	out, err := c.l.tree.content(full)
	if err != nil {
		return nil, c.fail(in, n, name, err)
	}
	return out, nil
}

// secret returns what is in an encrypted file.
func (c *content) secret(in *instance, n *document.Node, name, full string) (*resource.Content, error) {
	s := c.l.names.secrets
	was := s.begin()
	out, err := c.age(full)
	kept := c.l.taint(c.built, c.resource, c.attributeOf(n), in, s.end(was))
	var open *openError
	switch {
	case errors.As(err, &open):
		c.open = open.Error()
		return nil, open
	case err != nil:
		return nil, c.fail(in, n, name, err)
	case !kept:
		c.failed = true
		return nil, errSaid
	}
	return out, nil
}

// Template returns a file with its template executed.
func (c *content) Template(name string) (*resource.Content, error) {
	in, n := c.from(name)
	full, err := within(in.item.group.path, name)
	if err != nil {
		return nil, c.fail(in, n, name, err)
	}
	data, info, err := c.l.tree.read(full, maxTemplate)
	if err != nil {
		return nil, c.fail(in, n, name, err)
	}
	if strings.HasSuffix(full, secret.Suffix) {
		return nil, c.fail(in, n, name, errors.New("a template is not encrypted itself: name the secrets in it, by secret"))
	}
	c.l.names.each, c.l.names.secrets.group = in.each, in.item.group.path
	was := c.l.names.secrets.begin()
	defer func() { c.l.names.each = nil }()
	out, err := c.l.templates.renderFile(string(data))
	c.l.names.conceal()
	used := c.l.names.secrets.end(was)
	kept := c.l.taint(c.built, c.resource, c.attributeOf(n), in, used)
	if err != nil && used.touched {
		err = withheld(err)
	}
	c.refs = append(c.refs, out.refs...)
	var open *openError
	if errors.As(err, &open) {
		c.open = open.Error()
		return nil, open
	}
	if err != nil {
		c.failed = true
		f := &file{source: c.l.tree.name, path: full, data: data}
		c.l.textFault(&item{group: in.item.group, file: f}, &document.Node{Line: 0, Column: 1, Block: true}, c.built.Address.String()+": ", err)
		return nil, errSaid
	}
	if !kept {
		c.failed = true
		return nil, errSaid
	}
	if used.touched {
		c.built.made = append(c.built.made, out.text)
	}
	made := resource.Bytes([]byte(out.text))
	made.Executable = info.Mode()&0o111 != 0
	return made, nil
}

// Tree returns all that is below a directory.
func (c *content) Tree(name string) ([]resource.TreeEntry, error) {
	in, n := c.from(name)
	full, err := within(in.item.group.path, name)
	if err != nil {
		return nil, c.fail(in, n, name, err)
	}
	info, at, err := c.l.tree.stat(full)
	if err == nil && !info.IsDir() {
		err = errors.New("not a directory")
	}
	if err != nil {
		return nil, c.fail(in, n, name, err)
	}
	w := &treeWalk{tree: c.l.tree, base: at}
	if err := w.walk("."); err != nil {
		return nil, c.fail(in, n, name, err)
	}
	return w.entries, nil
}

// content returns a file whose bytes are read when they are wanted. Its digest
// is made once for a tree.
func (t *tree) content(name string) (*resource.Content, error) {
	info, at, err := t.stat(name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, errors.New("is a directory")
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a file")
	}
	if c := t.digests[at]; c != nil {
		return c, nil
	}
	size, sum, err := t.digest(at, info)
	if err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) {
		if data, ok := t.small.get(at); ok {
			return io.NopCloser(bytes.NewReader(data)), nil
		}
		return t.fsys.Open(at)
	}
	c := resource.Lazy(size, sum, info.Mode()&0o111 != 0, open)
	t.digests[at] = c
	return c, nil
}

// digest returns the size and SHA-256 of a file, which is read unless an earlier
// load did. A small one that is read is kept where its id says that its content
// stays.
func (t *tree) digest(name string, info fs.FileInfo) (int64, string, error) {
	id, hasID := info.Sys().(fmt.Stringer)
	if hasID && t.known != nil {
		if sum, ok := t.known.Digest(id.String()); ok {
			return info.Size(), sum, nil
		}
	}
	f, err := t.fsys.Open(name)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	hash := sha256.New()
	var size int64
	if hasID && t.small.room(info.Size()) {
		var data []byte
		data, err = io.ReadAll(f)
		hash.Write(data)
		t.small.keep(name, data)
		size = int64(len(data))
	} else {
		size, err = io.Copy(hash, f)
	}
	if err != nil {
		return 0, "", err
	}
	sum := hex.EncodeToString(hash.Sum(nil))
	if hasID && t.known != nil {
		t.known.Remember(id.String(), sum)
	}
	return size, sum, nil
}

// A treeWalk lists what is below a directory.
type treeWalk struct {
	tree    *tree
	base    string
	entries []resource.TreeEntry
}

func (w *treeWalk) walk(dir string) error {
	if strings.Count(dir, "/") > maxTreeDepth {
		return fmt.Errorf("%q is nested deeper than %d levels", dir, maxTreeDepth)
	}
	list, err := fs.ReadDir(w.tree.fsys, path.Join(w.base, dir))
	if err != nil {
		return err
	}
	for _, e := range list {
		if len(w.entries) >= maxTreeEntries {
			return fmt.Errorf("more than %d files", maxTreeEntries)
		}
		if err := w.add(path.Join(dir, e.Name()), e); err != nil {
			return err
		}
	}
	return nil
}

func (w *treeWalk) add(name string, e fs.DirEntry) error {
	full := path.Join(w.base, name)
	switch {
	case e.IsDir():
		w.entries = append(w.entries, resource.TreeEntry{Path: name, Type: fs.ModeDir})
		return w.walk(name)
	case e.Type()&fs.ModeSymlink != 0:
		target, err := fs.ReadLink(w.tree.fsys, full)
		if err != nil {
			return err
		}
		if !staysWithin(path.Dir(name), target) {
			return fmt.Errorf("link %q leads out of the directory, to %q", name, target)
		}
		w.entries = append(w.entries, resource.TreeEntry{Path: name, Type: fs.ModeSymlink, Target: target})
		return nil
	case !e.Type().IsRegular():
		return fmt.Errorf("%q is neither a file, a directory nor a link", name)
	}
	c, err := w.tree.content(full)
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	w.entries = append(w.entries, resource.TreeEntry{Path: name, Content: c})
	return nil
}

// staysWithin reports whether a link in dir leads to a place within the tree
// that dir is relative to, without going up through what may be another link.
func staysWithin(dir, target string) bool {
	if path.IsAbs(target) || target == "" {
		return false
	}
	down := false
	for _, part := range strings.Split(target, "/") {
		if part == ".." && down {
			return false
		}
		down = down || part != ".." && part != "." && part != ""
	}
	return fs.ValidPath(path.Join(dir, target))
}
