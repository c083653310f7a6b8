package directory

import (
	"os"
	"path/filepath"
	"testing"

	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

func TestADirectoryThatOthersMakeDurableIsMadeTheSame(t *testing.T) {
	h, root := scratch(t)
	m := New(h)
	r := m.New().(*Resource)
	r.Path, r.Mode, r.Parents = "/srv/deep/x", resource.NewMode(0o750), true
	engine := &resourcetest.Engine{Offline: true}
	if err := engine.Load(r); err != nil {
		t.Fatal(err)
	}
	found, err := engine.Check(t.Context(), m, r)
	if err != nil {
		t.Fatal(err)
	}
	_, dir, err := r.ApplyUnsealed(t.Context(), engine.View(m, r), found)
	if err != nil || dir != filepath.Join(root, "srv/deep/x") {
		t.Fatalf("directory %q, error %v", dir, err)
	}
	if i, err := os.Stat(dir); err != nil || i.Mode().Perm() != 0o750 {
		t.Errorf("%v, error %v", i, err)
	}
	if found, err := engine.Check(t.Context(), m, r); err != nil || !found.InOrder() {
		t.Errorf("found %+v, error %v", found, err)
	}
}
