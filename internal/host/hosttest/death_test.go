package hosttest

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestHostsDieWithTheirTest kills a test process that has a host, as a timeout
// of `go test` or an impatient person would.
func TestHostsDieWithTheirTest(t *testing.T) {
	t.Parallel()
	lab := New(t)
	const child = "HOSTTEST_CHILD"
	if os.Getenv(child) != "" {
		h := Boot(t, Options{Name: "orphan", Net: true})
		fmt.Fprintf(os.Stdout, "%d %s\n", h.current().leader, h.disk.id())
		select {} // until it is killed
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), child+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var leader, id, disk string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if n, _ := fmt.Sscan(lines.Text(), &leader, &id); n == 2 && exists("/proc/"+leader) {
			disk = filepath.Join(lab.store.dir, "disk", id)
			break
		}
	}
	seen := disk != "" && exists(disk)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if !seen {
		t.Fatal("the other process has no host")
	}
	for deadline := time.Now().Add(stopTimeout); exists("/proc/" + leader + "/exe"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("PID 1 of the host (%s here) outlives its test", leader)
		}
	}
	if err := lab.store.clear(); err != nil {
		t.Fatal(err)
	}
	if exists(disk) {
		t.Errorf("the disk %s outlives its test", disk)
	}
}
