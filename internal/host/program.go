package host

import (
	"os"
	"path"
	"strings"
)

// LocalProgram returns the path of a program of the system that the agent itself
// runs on; "" where there is none of that name.
func LocalProgram(name string) string {
	for dir := range strings.SplitSeq(searchPath, ":") {
		file := path.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return file
		}
	}
	return ""
}

// Program returns the arguments that call a program of the machine: its path, in
// a tree with a change of root before it. It returns nil where the machine has
// none of that name, and in a tree where it cannot be run.
func (h *Host) Program(name string) []string {
	if !h.Offline() {
		if file := LocalProgram(name); file != "" {
			return []string{file}
		}
		return nil
	}
	if os.Geteuid() != 0 {
		return nil // nobody else can change the root
	}
	for dir := range strings.SplitSeq(searchPath, ":") {
		file := path.Join(dir, name)
		if h.Executable(file) {
			return []string{"chroot", h.root, file}
		}
	}
	return nil
}

// Executable reports whether a path of the machine leads to a program.
func (h *Host) Executable(name string) bool {
	p, err := h.resolve(name, true)
	if err != nil {
		return false
	}
	defer p.close()
	i, err := p.stat()
	return err == nil && i.Type() == TypeFile && i.Mode().Bits()&0o111 != 0
}
