package files_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/files"
	"trued.dev/trued/internal/resource"
)

func newTree(t *testing.T) (*host.Host, string) {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	return host.New(root, host.Options{Backups: host.OpenBackups(t.TempDir())}), root
}

func of(path, part, content string) files.File {
	return files.File{Path: path, Part: part, Spec: host.FileSpec{Content: resource.Bytes([]byte(content)), Backup: true}}
}

func converge(t *testing.T, h *host.Host, view resource.View, all []files.File) resource.View {
	t.Helper()
	found, err := files.Check(t.Context(), h, view, all)
	if err != nil {
		t.Fatal(err)
	}
	if found.Prior != nil {
		view.Prior = found.Prior
	}
	if err := files.Apply(t.Context(), h, view, all, found); err != nil {
		t.Fatal(err)
	}
	view.Held = files.Claims(all)
	if found, err = files.Check(t.Context(), h, view, all); err != nil || !found.InOrder() {
		t.Errorf("found %+v, error %v", found, err)
	}
	return view
}

// A file that the resource has no use for any more goes, or becomes what it was.
func TestAFileThatIsOfNoMoreUseIsGivenBack(t *testing.T) {
	h, root := newTree(t)
	at := func(name string) string { return filepath.Join(root, name) }
	if err := os.WriteFile(at("/etc/key"), []byte("earlier"), 0o640); err != nil {
		t.Fatal(err)
	}
	view := resource.View{Owner: func(resource.Claim) (resource.Address, bool) { return resource.Address{}, false }, Offline: true}
	main := of("/etc/main", "", "a")
	view = converge(t, h, view, []files.File{main, of("/etc/pin", "pin", "b"), of("/etc/key", "key", "c")})
	found, err := files.Check(t.Context(), h, view, []files.File{main})
	if err != nil || len(found.Diff) == 0 || found.Diff[0].Cause != resource.Prune {
		t.Errorf("found %+v, error %v", found, err)
	}
	converge(t, h, view, []files.File{main})
	if _, err := os.Lstat(at("/etc/pin")); err == nil {
		t.Error("the pin is there")
	}
	if key, err := os.ReadFile(at("/etc/key")); err != nil || string(key) != "earlier" {
		t.Errorf("the key is %q, error %v", key, err)
	}
}

func TestAFileThatOthersMayNotReadIsTakenOverUnseen(t *testing.T) {
	h, root := newTree(t)
	for name, mode := range map[string]os.FileMode{"main": 0o644, "key": 0o600} {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte("s3cr3t of "+name), mode); err != nil {
			t.Fatal(err)
		}
	}
	view := resource.View{Owner: func(resource.Claim) (resource.Address, bool) { return resource.Address{}, false }, Offline: true}
	all := []files.File{of("/etc/main", "", "a"), of("/etc/key", "key", "b")}
	for range 2 { // the second time as after a first change that failed
		found, err := files.Check(t.Context(), h, view, all)
		said := fmt.Sprint(found.Diff)
		if err != nil || !found.Diff.Has("key.content") || strings.Contains(said, "of key") || !strings.Contains(said, "of main") {
			t.Errorf("found %+v, error %v", found, err)
		}
		if found.Prior != nil {
			view.Prior = found.Prior
		}
	}
	view = converge(t, h, view, all)
	if err := os.WriteFile(filepath.Join(root, "etc/key"), []byte("drifted"), 0o600); err != nil {
		t.Fatal(err)
	}
	if found, err := files.Check(t.Context(), h, view, all); err != nil || !strings.Contains(fmt.Sprint(found.Diff), "drifted") {
		t.Errorf("of its own found %+v, error %v", found, err)
	}
}

func TestOnlyWhatIsStatedIsWritten(t *testing.T) {
	h, root := newTree(t)
	all := []files.File{of("/etc/main", "", "a"), of("/etc/key", "key", "b")}
	view := resource.View{Owner: func(resource.Claim) (resource.Address, bool) { return resource.Address{}, false }, Offline: true}
	found, err := files.Check(t.Context(), h, view, all)
	if err != nil {
		t.Fatal(err)
	}
	found.Diff = found.Diff.Without([]string{"key.state", "key.content", "key.mode"})
	if err := files.Apply(t.Context(), h, view, all, found); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(root, "etc/key")); err == nil {
		t.Error("the key is there")
	}
	if main, err := os.ReadFile(filepath.Join(root, "etc/main")); err != nil || string(main) != "a" {
		t.Errorf("it is %q, error %v", main, err)
	}
}

func TestWhatIsNotAcceptedLeavesWhatWasThere(t *testing.T) {
	refused := errors.New("refused")
	for name, refuse := range map[string]func(t *testing.T, root string, spec *host.FileSpec){
		"beside its place": func(_ *testing.T, _ string, spec *host.FileSpec) {
			spec.Examine = func(_ context.Context, path string) error {
				if text, err := os.ReadFile(path); err != nil || string(text) != "new" || !strings.HasSuffix(path, "-main") {
					t.Errorf("%s is %q, error %v", path, text, err)
				}
				return refused
			}
		},
		"in its place": func(_ *testing.T, root string, spec *host.FileSpec) {
			spec.Trial = func(context.Context) error {
				if text, err := os.ReadFile(filepath.Join(root, "etc/main")); err != nil || string(text) != "new" {
					t.Errorf("it is %q, error %v", text, err)
				}
				return refused
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, root := newTree(t)
			if err := os.WriteFile(filepath.Join(root, "etc/main"), []byte("old"), 0o644); err != nil {
				t.Fatal(err)
			}
			f := of("/etc/main", "", "new")
			refuse(t, root, &f.Spec)
			if err := h.WriteFile(t.Context(), f.Path, f.Spec); !errors.Is(err, refused) {
				t.Errorf("returned %v", err)
			}
			entries, err := os.ReadDir(filepath.Join(root, "etc"))
			if text, err2 := os.ReadFile(filepath.Join(root, "etc/main")); err != nil || err2 != nil || string(text) != "old" || len(entries) != 1 {
				t.Errorf("it is %q beside %v, errors %v, %v", text, entries, err, err2)
			}
		})
	}
}
