package hosttest

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// insideVar is set for the copy of a test program that runs in a booted host.
const insideVar = "TRUED_TEST_INSIDE_HOST"

// Inside takes a test into a booted host: it reports true where the test runs
// as root of one that is its own. Elsewhere it boots a host, runs the line of
// shell prepare there, runs this very test in it, and reports false.
func Inside(t *testing.T, o Options, prepare string) bool {
	t.Helper()
	if os.Getenv(insideVar) != "" {
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := Boot(t, o)
	h.Copy(t, self, "/srv/inside.test")
	if prepare != "" {
		h.Run(t, prepare)
	}
	out, code := h.Try(t, insideVar+"=1 /srv/inside.test -test.v -test.timeout 20m -test.run '^"+t.Name()+"$'")
	switch {
	case code != 0 || !strings.Contains(out, "--- PASS: "+t.Name()+" ") || strings.Contains(out, "--- SKIP"):
		t.Errorf("inside the host: exit code %d\n%s", code, out)
	case testing.Verbose():
		t.Log(out)
	}
	return false
}

// Sh runs a line of shell where the test runs, and returns what it printed,
// whatever its exit code.
func Sh(t testing.TB, line string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute) // a clean-up may call it
	defer cancel()
	out, err := exec.CommandContext(ctx, "bash", "-c", line).CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("%s: %v %v", line, ctx.Err(), err)
	}
	return strings.TrimSpace(string(out))
}

// Expect demands that a line of shell prints something.
func Expect(t testing.TB, line, want string) {
	t.Helper()
	if got := Sh(t, line); got != want {
		t.Errorf("%s\nsays %q, want %q", line, got, want)
	}
}
