package key

import (
	"os/exec"
	"strings"
	"testing"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

// TestOnHost holds the promises of a module on a booted host.
func TestOnHost(t *testing.T) {
	if !hosttest.Inside(t, hosttest.Options{Name: "key"}, "useradd -m deploy; chmod 755 /home/deploy") {
		return
	}
	h := host.New("/", host.Options{Backups: host.OpenBackups(t.TempDir())})
	for name, fill := range map[string]Resource{
		"one key":   {Key: blobA},
		"exclusive": {Keys: []string{blobA, blobB}, Exclusive: true, Options: "restrict"},
	} {
		t.Run(name, func(t *testing.T) {
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource { return filled(m, fill) },
				Dirs:     []string{"/home/deploy"},
			})
		})
	}
	t.Run("a home that a friend can write to", func(t *testing.T) {
		if out, err := exec.Command("chmod", "g+w", "/home/deploy").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		m := New(h)
		r := filled(m, Resource{Key: blobA})
		e := &resourcetest.Engine{}
		if err := e.Load(r); err != nil {
			t.Fatal(err)
		}
		if err := e.Converge(t.Context(), m, r); err == nil || !strings.Contains(err.Error(), "can be written to by others") {
			t.Errorf("returned %v", err)
		}
	})
}
