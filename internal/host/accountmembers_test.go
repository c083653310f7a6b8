package host

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestMembersNeedNotBeThereYet(t *testing.T) {
	h := New(t.TempDir(), Options{})
	files := map[string]struct{ had, want string }{
		"group":   {"root:x:0:\ng:x:5:old\ngg:x:6:old", "root:x:0:\ng:x:5:a,b\ngg:x:6:old"},
		"gshadow": {"root:*::\ng:!:boss:old\n", "root:*::\ng:!:boss:a,b\n"},
	}
	for name, f := range files {
		name = h.Path(filepath.Join("/etc", name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(f.had), 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.SetMembers(t.Context(), "g", []string{"a", "b"}); err != nil {
		t.Fatal(err)
	}
	for name, f := range files {
		name = h.Path(filepath.Join("/etc", name))
		got, err := os.ReadFile(name)
		info, err2 := os.Stat(name)
		if err := errors.Join(err, err2); err != nil || string(got) != f.want || info.Mode().Perm() != 0o640 {
			t.Errorf("%s is %q, error %v", name, got, err)
		}
	}
}
