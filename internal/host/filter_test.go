package host_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"trued.dev/trued/internal/host"
)

func TestAFilterTurnsWhatItReadsIntoWhatItPrints(t *testing.T) {
	f, err := host.StartFilter(t.Context(), []string{"/bin/tr", "a-z", "A-Z"}, strings.NewReader(strings.Repeat("x", 1<<20)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if out, err := io.ReadAll(f); err != nil || string(out) != strings.Repeat("X", 1<<20) {
		t.Errorf("it printed %d bytes, error %v", len(out), err)
	}
}

func TestAFilterHasNoRights(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, which has some")
	}
	f, err := host.StartFilter(t.Context(), []string{"/bin/sh", "-c", "id -u; id -G; env | cut -d= -f1 | sort | xargs"}, strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if out, err := io.ReadAll(f); err != nil || string(out) != "65534\n65534\nLANG PATH PWD\n" {
		t.Errorf("it printed %q, error %v", out, err)
	}
}

func TestAFilterThatFailsSaysSoAtItsEnd(t *testing.T) {
	f, err := host.StartFilter(t.Context(), []string{"/bin/sh", "-c", "echo half; echo corrupt >&2; exit 3"}, strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var failed *host.CommandError
	out, err := io.ReadAll(f)
	if string(out) != "half\n" || !errors.As(err, &failed) || failed.Output != "corrupt\n" {
		t.Errorf("it printed %q, error %v", out, err)
	}
}

func TestAFilterThatIsClosedOrCalledOffEnds(t *testing.T) {
	for name, end := range map[string]func(io.Closer, context.CancelFunc){
		"closed":     func(f io.Closer, _ context.CancelFunc) { _ = f.Close() },
		"called off": func(_ io.Closer, cancel context.CancelFunc) { cancel() },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		f, err := host.StartFilter(ctx, []string{"/bin/sh", "-c", "while :; do echo y; done"}, strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		end(f, cancel)
		if _, err := io.Copy(io.Discard, f); err == nil {
			t.Errorf("%s: it ended well", name)
		}
		_ = f.Close()
		cancel()
	}
}
