package resourcetest

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"trued.dev/trued/internal/resource"
)

// statedWrites are the paths that a resource says that it writes, or those that
// count for one that does not say.
func statedWrites(r resource.Resource) []resource.Write {
	if w, ok := r.(resource.Writer); ok {
		return w.Writes()
	}
	var writes []resource.Write
	for _, c := range r.Claims() {
		if c.Space == resource.SpacePath {
			writes = append(writes, resource.Write{Path: c.Name, Tree: true})
		}
	}
	return writes
}

// followed adds where links lead that are there, for what is written by way of one.
func (s *suite) followed(stated []resource.Write) []resource.Write {
	all := slices.Clone(stated)
	for _, w := range stated {
		for _, dir := range s.Dirs {
			if target, err := os.Readlink(filepath.Join(dir, w.Path)); w.Follow && err == nil {
				if !path.IsAbs(target) {
					target = path.Join(path.Dir(w.Path), target)
				}
				all = append(all, resource.Write{Path: path.Clean(target), Tree: w.Tree})
			}
		}
	}
	return all
}

// wroteOnly holds what changed in the directories against what was stated. A
// directory above what is stated may be made on the way.
func wroteOnly(t *testing.T, stated []resource.Write, before, after []string) {
	t.Helper()
	described := regexp.MustCompile(`^(/.*?) [-a-zA-Z]{10,} \d+:\d+`) // a line of Fingerprint
	for _, lines := range [][2][]string{{before, after}, {after, before}} {
		for _, line := range lines[0] {
			if slices.Contains(lines[1], line) {
				continue
			}
			found := described.FindStringSubmatch(line)
			if found == nil || states(stated, found[1]) {
				continue // what a case tells of beside paths is its own
			}
			t.Errorf("apply changed %q, which Writes does not state: %+v", found[1], stated)
		}
	}
}

// accounts are the files that whoever claims a user or a group writes.
func accounts() []string {
	return []string{"/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/subuid", "/etc/subgid", "/etc/.pwd.lock"}
}

// states reports whether a path is stated by its name on the machine, the root of
// which may be anywhere above.
func states(stated []resource.Write, name string) bool {
	for i := range name {
		if name[i] != '/' {
			continue
		}
		at := name[i:]
		if slices.ContainsFunc(stated, func(w resource.Write) bool {
			return w.Path == at || strings.HasPrefix(w.Path, at+"/") || w.Tree && strings.HasPrefix(at, w.Path+"/")
		}) || slices.Contains(accounts(), strings.TrimSuffix(at, "-")) {
			return true
		}
	}
	return false
}
