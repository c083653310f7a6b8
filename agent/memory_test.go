package agent

import (
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The program goes on after it let go of its pages, in whatever way it was
// linked, and fewer of them are in memory.
func TestTheProgramNeedsNoPageOfItself(t *testing.T) {
	before := residentOfFiles(t)
	unmapProgram()
	after := residentOfFiles(t)
	if after >= before {
		t.Errorf("%d kB of files are mapped after, %d kB before", after, before)
	}
	if u, err := url.Parse("https://example.com/a"); err != nil || !regexp.MustCompile(`^example`).MatchString(u.Host) {
		t.Errorf("%v, %v", u, err)
	}
	if _, err := os.Hostname(); err != nil {
		t.Error(err)
	}
}

func residentOfFiles(t *testing.T) (kB int) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "RssFile:")
	if _, err := fmt.Sscan(rest, &kB); err != nil {
		t.Fatal(err)
	}
	return kB
}
