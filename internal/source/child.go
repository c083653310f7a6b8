package source

import (
	"bufio"
	"context"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"trued.dev/trued/internal/source/remote"
)

// ServeFetch is what the hidden command of the binary runs: it fetches with no
// more rights than that takes, and tells the parent over the pipes in and out.
func ServeFetch(ctx context.Context, in, out *os.File) error {
	return remote.Serve(ctx, in, out, remote.Confine)
}

// start starts the child, and says in the request who it is to become.
func (r *repository) start(ctx context.Context, req *remote.Request) (*remote.Client, error) {
	return startChild(ctx, r.o.Child, r.dir, req)
}

// startChild is start for a child whose quarantine is below dir.
func startChild(ctx context.Context, child []string, dir string, req *remote.Request) (*remote.Client, error) {
	if len(child) == 0 {
		scratch, err := os.MkdirTemp(dir, "quarantine.")
		if err != nil {
			return nil, err
		}
		req.Scratch = scratch
		return remote.Within(ctx, scratch), nil
	}
	req.Scratch = "."
	req.UID, req.GID = os.Geteuid(), os.Getegid()
	u, err := remote.ParseURL(req.URL)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "file" {
		req.URL, req.Readable = localRepository(u.Path)
		if _, err := os.Stat(req.URL); err != nil {
			return nil, err
		}
	}
	if req.UID == 0 {
		if req.UID, req.GID, err = unprivileged(); err != nil {
			return nil, err
		}
		if u.Scheme == "file" {
			req.UID, req.GID = ownerOf(req.URL, req.UID, req.GID)
		}
	}
	return remote.Start(ctx, child, dir, req.UID, req.GID)
}

// ownerOf returns who a repository on this machine belongs to: the process
// that reads it needs no other rights than that user's.
func ownerOf(name string, uid, gid int) (int, int) {
	info, err := os.Stat(name)
	if err != nil {
		return uid, gid
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid), int(st.Gid)
	}
	return uid, gid
}

// localRepository returns the absolute path of a repository, and all
// directories that are part of it.
func localRepository(name string) (string, []string) {
	if abs, err := filepath.Abs(name); err == nil {
		name = abs
	}
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target
	}
	dirs := []string{name}
	// A linked work tree keeps its objects elsewhere.
	data, err := os.ReadFile(filepath.Join(name, ".git"))
	if gitDir, ok := strings.CutPrefix(strings.TrimSpace(string(data)), "gitdir: "); err == nil && ok {
		if !filepath.IsAbs(gitDir) {
			gitDir = filepath.Join(name, gitDir)
		}
		dirs = append(dirs, gitDir)
		if common, err := os.ReadFile(filepath.Join(gitDir, "commondir")); err == nil { //nolint:gosec // as above
			dirs = append(dirs, filepath.Join(gitDir, strings.TrimSpace(string(common))))
		}
	}
	return name, dirs
}

// fetchUser is whom the child becomes when there is such a user.
const fetchUser = "trued-fetch"

// unprivileged returns a user that nothing else runs as: one of that name, or
// the first number from a range that no distribution hands out.
func unprivileged() (uid, gid int, err error) {
	if u, err := user.Lookup(fetchUser); err == nil {
		uid, errUID := strconv.Atoi(u.Uid)
		gid, errGID := strconv.Atoi(u.Gid)
		if errUID == nil && errGID == nil && uid != 0 {
			return uid, gid, nil
		}
	}
	const first, last = 61000, 61180
	taken := map[string]bool{}
	for _, name := range []string{"/etc/passwd", "/etc/group"} {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if fields := strings.Split(lines.Text(), ":"); len(fields) > 2 {
				taken[fields[2]] = true
			}
		}
		_ = f.Close()
	}
	for id := first; id <= last; id++ {
		if !taken[strconv.Itoa(id)] {
			return id, id, nil
		}
	}
	return 0, 0, errNoUser
}
