package catalog_test

import (
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"trued.dev/trued/internal/catalog"
)

// An opened tree counts how often its files are opened.
type opened struct {
	fstest.MapFS
	times map[string]int
}

func (o opened) Open(name string) (fs.File, error) {
	o.times[name]++
	return o.MapFS.Open(name)
}

type objectID string

func (i objectID) String() string { return string(i) }

func TestSmallFilesThatALoadReadsAreKeptUntilTheyAreShed(t *testing.T) {
	const keptFile, keptFiles = 16 << 10, 4 << 20
	for name, c := range map[string]struct {
		files map[string]*fstest.MapFile
		// read is how often all of them are read after the load, and again when what
		// was kept is shed.
		read, shed int
	}{
		"small":         {map[string]*fstest.MapFile{"a": {Data: []byte("x"), Sys: objectID("1")}, "b": {Sys: objectID("2")}}, 0, 2},
		"without an id": {map[string]*fstest.MapFile{"a": {Data: []byte("x")}}, 1, 1},
		"large":         {map[string]*fstest.MapFile{"a": {Data: make([]byte, keptFile+1), Sys: objectID("1")}}, 1, 1},
		"many":          {many(keptFiles/keptFile+3, keptFile), 3, keptFiles/keptFile + 3},
	} {
		t.Run(name, func(t *testing.T) {
			tree := opened{fstest.MapFS{}, map[string]int{}}
			for name, f := range c.files {
				tree.MapFS["groups/web/files/"+name] = f
			}
			tree.MapFS["groups/web/m.yaml"] = &fstest.MapFile{Data: []byte("- directory: /srv/x\n  source: files\n")}
			in := input(nil)
			in.Tree = tree
			cat, err := catalog.Load(in)
			if err != nil {
				t.Fatal(err)
			}
			if got := readAll(t, cat, c.files, tree.times); got != c.read {
				t.Errorf("%d files are read again, want %d", got, c.read)
			}
			cat.Shed()
			if got := readAll(t, cat, c.files, tree.times); got != c.shed {
				t.Errorf("%d files are read once it is shed, want %d", got, c.shed)
			}
		})
	}
}

func many(n, size int) map[string]*fstest.MapFile {
	files := map[string]*fstest.MapFile{}
	for i := range n {
		name := fmt.Sprint(i)
		files[name] = &fstest.MapFile{Data: []byte(strings.Repeat(name[:1], size)), Sys: objectID(name)}
	}
	return files
}

// readAll compares the content of the catalog's one tree with the files, and
// returns how many of them were opened for that.
func readAll(t *testing.T, c *catalog.Catalog, files map[string]*fstest.MapFile, times map[string]int) int {
	t.Helper()
	clear(times)
	entries := c.Entries[0].Resource.(*directory).Tree
	if len(entries) != len(files) {
		t.Fatalf("%d entries, want %d", len(entries), len(files))
	}
	for _, e := range entries {
		r, err := e.Content.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil || string(data) != string(files[e.Path].Data) {
			t.Errorf("%s has %d bytes, error %v", e.Path, len(data), err)
		}
		r.Close()
	}
	return len(times)
}
