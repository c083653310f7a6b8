package pkg

import (
	"os"
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
)

// insideVar is set for the copy of the test program that runs in a booted host.
const insideVar = "TRUED_PKG_INSIDE"

// The statements about real packages are the tests whose names begin with
// TestInside; they run in a host of their own, as its root.
func TestPackagesOnBootedHosts(t *testing.T) {
	if os.Getenv(insideVar) != "" {
		t.Skip("is inside the host already")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			h := hosttest.Boot(t, hosttest.Options{Name: "pkg-" + suite, Suite: suite, Net: true})
			h.Copy(t, self, "/srv/pkg.test")
			out, code := h.Try(t, insideVar+"=1 /srv/pkg.test -test.v -test.timeout 20m -test.run '"+insideTests()+"'")
			report(t, out, code)
		})
	}
}

func insideTests() string {
	if only := os.Getenv("TRUED_PKG_ONLY"); only != "" {
		return only
	}
	return "^TestInside"
}

// report tells the outcome of each inner test as a test of its own.
func report(t *testing.T, out string, code int) {
	t.Helper()
	if code != 0 || !strings.Contains(out, "--- PASS") || strings.Contains(out, "--- SKIP") {
		t.Errorf("inside the host: exit code %d\n%s", code, out)
		return
	}
	if testing.Verbose() {
		t.Log(out)
	}
}

func inside(t *testing.T) {
	t.Helper()
	if os.Getenv(insideVar) == "" {
		t.Skip("is run inside a booted host by TestPackagesOnBootedHosts")
	}
}
