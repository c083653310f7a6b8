package host

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A run that is cut off while a file is judged in its place leaves what the
// verdict is not known of; it is taken back by the next.
func TestAFileThatNobodyCameToJudgeIsTakenBack(t *testing.T) {
	for _, c := range []struct {
		name, had string
		judged    bool
	}{
		{"while it is judged", "old", false},
		{"while it is judged, and nothing was there before", "", false},
		{"afterwards", "old", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := scratch(t)
			if c.had != "" {
				put(t, h, "/x", c.had)
			}
			// The tree as it is at the time of the verdict.
			cut := filepath.Join(t.TempDir(), "cut")
			judge := "sh -c 'grep -q new " + h.Path("/x") + " && cp -a " + h.Root() + " " + cut + "'"
			if err := h.WriteFile(t.Context(), "/x", FileSpec{Content: text("new"), Validate: judge}); err != nil {
				t.Fatal(err)
			}
			holds(t, h, "/x", "new")
			noTemporaries(t, h)
			if c.judged {
				if err := exec.Command("cp", "-aT", h.Root(), cut+"-after").Run(); err != nil {
					t.Fatal(err)
				}
				cut += "-after"
			}
			after := New(cut, Options{})
			if _, err := after.Sweep([]string{"/x", "/y"}); err != nil {
				t.Fatal(err)
			}
			noTemporaries(t, after)
			switch _, err := after.Lstat("/x"); {
			case c.judged:
				holds(t, after, "/x", "new")
			case c.had != "":
				holds(t, after, "/x", c.had)
			case err == nil:
				t.Error("what was not judged is still there")
			}
		})
	}
}

// A second name that an ordinary user could have given puts nothing back.
func TestASecondNameWhereOthersMayWritePutsNothingBack(t *testing.T) {
	h := scratch(t)
	put(t, h, "/x", "ours")
	put(t, h, "/"+trialPrefix+"x", "theirs")
	if err := os.Chmod(h.Root(), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Sweep([]string{"/x"}); err != nil {
		t.Fatal(err)
	}
	holds(t, h, "/x", "ours")
	noTemporaries(t, h)
}
