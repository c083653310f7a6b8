package resourcetest

import (
	"testing"

	"trued.dev/trued/internal/resource"
)

func TestWhatIsWrittenIsHeldAgainstWhatIsStated(t *testing.T) {
	stated := []resource.Write{{Path: "/srv/app/a"}, {Path: "/srv/tree", Tree: true}}
	for name, want := range map[string]bool{
		"/tmp/root/srv/app/a":    true,
		"/srv/app/a":             true,
		"/tmp/root/srv/app":      true, // made on the way
		"/tmp/root/srv/app/b":    false,
		"/tmp/root/srv/app/a/b":  false,
		"/tmp/root/srv/tree/x/y": true,
		"/tmp/root/srv/trees":    false,
		"/tmp/root/etc/shadow-":  true,
		"/tmp/root/etc/hosts":    false,
	} {
		if got := states(stated, name); got != want {
			t.Errorf("%s is stated: %v, want %v", name, got, want)
		}
	}
}
