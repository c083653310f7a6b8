package hosttest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Each host has a cgroup of its own: systemd-nspawn makes /payload and
// /supervisor in the one that it is started in, and killing the group is a
// power cut.
const cgroupName = "trued-lab"

// cgroupRoots returns where cgroup2 is mounted and, on a machine that has the
// old hierarchy of systemd beside it, that too.
func cgroupRoots() ([]string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &st); err == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		return []string{"/sys/fs/cgroup"}, nil
	}
	if _, err := os.Stat("/sys/fs/cgroup/unified/cgroup.procs"); err != nil {
		return nil, errors.New("no cgroup2 hierarchy in /sys/fs/cgroup")
	}
	roots := []string{"/sys/fs/cgroup/unified"}
	if _, err := os.Stat("/sys/fs/cgroup/systemd/cgroup.procs"); err == nil {
		roots = append(roots, "/sys/fs/cgroup/systemd")
	}
	return roots, nil
}

// makeCgroup makes a host's cgroup and returns its directories, that of
// cgroup2 first.
func makeCgroup(id string) ([]string, error) {
	roots, err := cgroupRoots()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, root := range roots {
		group := filepath.Join(root, cgroupName)
		dir := filepath.Join(group, id, "box")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		for _, g := range []string{group, filepath.Join(group, id)} {
			controllers, err := os.ReadFile(filepath.Join(g, "cgroup.controllers"))
			if err != nil {
				continue // the old hierarchy
			}
			for _, c := range strings.Fields(string(controllers)) {
				// A host without a controller is good enough for a test.
				_ = os.WriteFile(filepath.Join(g, "cgroup.subtree_control"), []byte("+"+c), 0)
			}
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

// killCgroup ends every process of a host, waits for that, and removes the
// group.
func killCgroup(id string) error {
	roots, err := cgroupRoots()
	if err != nil {
		return err
	}
	for _, root := range roots {
		dir := filepath.Join(root, cgroupName, id)
		deadline := time.Now().Add(stopTimeout)
		for {
			err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
			if errors.Is(err, fs.ErrNotExist) && !exists(dir) {
				break
			}
			if err := removeGroups(dir); err == nil {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("cgroup %s cannot be emptied", dir)
			}
			time.Sleep(10 * time.Millisecond) // the kernel tells nobody
		}
	}
	return nil
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

func removeGroups(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeGroups(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return unix.Rmdir(dir)
}
