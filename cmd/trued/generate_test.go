package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestEachCommandThatIsShownHasAManPage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man")
	if out, err := exec.CommandContext(t.Context(), "go", "run", "-tags", "generate", ".", "generate", "man", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, c := range (&app{}).root().Commands() {
		page, err := os.ReadFile(filepath.Join(dir, "trued-"+c.Name()+".8"))
		switch {
		case c.Hidden && err == nil:
			t.Errorf("%s is hidden and has a man page", c.Name())
		case !c.Hidden && (err != nil || !bytes.HasPrefix(page, []byte(".nh\n.TH"))):
			t.Errorf("the man page of %s begins with %.40q: %v", c.Name(), page, err)
		}
	}
}
