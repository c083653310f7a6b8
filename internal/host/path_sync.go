package host

import (
	"golang.org/x/sys/unix"
)

// SyncFS syncs each distinct file system of the directories once. Paths are
// those of this process, as Staged.Dir gives them.
func SyncFS(dirs []string) error {
	seen := map[string]bool{}
	devices := map[uint64]bool{}
	for _, dir := range dirs {
		if seen[dir] {
			continue
		}
		seen[dir] = true
		if err := syncOnce(dir, devices); err != nil {
			return explain("sync the file system of", dir, err)
		}
	}
	return nil
}

func syncOnce(dir string, devices map[uint64]bool) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	dev := uint64(st.Dev) //nolint:unconvert // its width differs between architectures
	if devices[dev] {
		return nil
	}
	devices[dev] = true
	return unix.Syncfs(fd)
}
