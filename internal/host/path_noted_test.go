package host

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"trued.dev/trued/internal/resource"
)

func TestOfSensitiveContentOnlyWhatIsToBeGivenBackIsKept(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	digest := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:])
	}
	backups := OpenBackups(filepath.Join(dir, "backups"))
	noted := digest("what was there before")
	h := New(root, Options{Backups: backups, Noted: func(sum string) bool { return sum == noted }})
	was := filepath.Join(root, "etc/x")
	if err := os.WriteFile(was, []byte("what was there before"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"the first secret", "the second secret", "the third secret"} {
		spec := FileSpec{Content: resource.Bytes([]byte(text)), Backup: true, Sensitive: true}
		if err := h.WriteFile(t.Context(), "/etc/x", spec); err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(was); err != nil || string(data) != text {
			t.Errorf("the file holds %q, error %v", data, err)
		}
	}
	if !backups.Has(noted) || backups.Has(digest("the first secret")) || backups.Has(digest("the second secret")) {
		t.Error("what is kept is not what was there before alone")
	}
}

func TestAFileThatHeldTheSecretAlreadyLeavesNoDigestOfIt(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "x"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := New(root, Options{})
	found, err := h.CompareFile(t.Context(), "/x", FileSpec{Content: resource.Bytes([]byte("secret")), Sensitive: true})
	if err != nil || len(found.Diff) > 0 || !found.Prior.Existed || found.Prior.SHA256 != "" {
		t.Errorf("found %+v, error %v", found, err)
	}
}
