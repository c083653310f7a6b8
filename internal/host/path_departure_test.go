package host

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"trued.dev/trued/internal/resource"
)

// leaving returns the departure of a path that was not there before.
func leaving(t *testing.T, h *Host, kind, name string) *Departure {
	t.Helper()
	noted := resource.Prior{}
	if err := (PathPrior{}).Note(noted, name); err != nil {
		t.Fatal(err)
	}
	d, err := NewDeparture(h, resource.Held{
		Address: resource.Address{Kind: kind, Name: name},
		Claims:  []resource.Claim{resource.Path(name)},
		Prior:   noted,
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func nobodyHolds(resource.Claim) (resource.Address, bool) { return resource.Address{}, false }

func TestADirectoryLeavesWithWhatLeavesInIt(t *testing.T) {
	for name, foreign := range map[string]bool{"nothing else": false, "something that came later": true} {
		t.Run(name, func(t *testing.T) {
			h := scratch(t)
			put(t, h, "/srv/a/x", "x")
			view := resource.View{Owner: nobodyHolds}
			file, dir := leaving(t, h, "file", "/srv/a/x"), leaving(t, h, "directory", "/srv/a")
			found, err := dir.Check(t.Context(), view)
			if err != nil || !found.Diff.Has(FieldState) {
				t.Fatalf("the directory is found %+v, error %v", found, err)
			}
			gone, err := file.Check(t.Context(), view)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := file.Apply(t.Context(), view, gone); err != nil {
				t.Fatal(err)
			}
			if foreign {
				put(t, h, "/srv/a/y", "y")
			}
			if _, err := dir.Apply(t.Context(), view, found); err != nil {
				t.Fatal(err)
			}
			again, err := dir.Check(t.Context(), view)
			if err != nil || !again.InOrder() || (again.Note != "") != foreign {
				t.Errorf("after Apply the directory is found %+v, error %v", again, err)
			}
			if _, err := os.Lstat(h.Path("/srv/a")); errors.Is(err, fs.ErrNotExist) == foreign {
				t.Errorf("the directory: %v", err)
			}
		})
	}
}

func TestWhatAnotherResourceHoldsIsNotGivenBack(t *testing.T) {
	h := scratch(t)
	put(t, h, "/x", "x")
	d := leaving(t, h, "file", "/x")
	found, err := d.Check(t.Context(), resource.View{Owner: func(c resource.Claim) (resource.Address, bool) {
		return resource.Address{Kind: "unit", Name: "x"}, c == resource.Path("/x")
	}})
	if err != nil || !found.InOrder() {
		t.Errorf("found %+v, error %v", found, err)
	}
}

func TestAPathDepartsUntilItIsGoneOrAllIsFoundAnew(t *testing.T) {
	for name, end := range map[string]func(*Host) error{
		"gone": func(h *Host) error { return h.Discard("/x", false, false) },
		"anew": func(h *Host) error { h.AllStay(); return nil },
	} {
		h := scratch(t)
		put(t, h, "/x", "x")
		leaving(t, h, "file", "/x")
		if !h.Departing("/x") {
			t.Errorf("%s: it does not depart", name)
		}
		if err := end(h); err != nil || h.Departing("/x") {
			t.Errorf("%s: it departs still, error %v", name, err)
		}
	}
}
