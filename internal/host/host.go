// Package host is the machine as modules see it: files under a root, commands,
// users and groups, the service manager, and what was kept of replaced files.
//
// It knows how to do things to a machine and nothing about what is desired:
// no manifest, no plan, no report reaches it.
package host

import (
	"os"
	"path/filepath"
	"sync"
)

// A Host is a machine, or a tree that will become one. Its methods may be
// called from several goroutines.
type Host struct {
	*machine
	// guard is asked before a path is written; nil permits all.
	guard Guard
	word  string
}

// A machine is what all that work on one have in common.
type machine struct {
	root    string
	backups *Backups
	noted   func(sha256 string) bool
	systemd Systemd
	digests *Digests
	fetcher Fetcher

	rootOnce sync.Once
	rootFile *os.File
	rootDesc int
	rootErr  error

	bootOnce sync.Once
	bootID   string

	mounts        mounts
	users, groups accounts
	packages      packaged
	departing     sync.Map // paths that are to be given back
	swept         sync.Map // a sync.Once for each directory, or disguised file, that was written
}

// Options are what a Host works with beside its files.
type Options struct {
	// Backups takes the content of what is replaced; nil keeps none.
	Backups *Backups
	// Digests remembers what files hold; nil reads each one every time.
	Digests *Digests
	// Fetcher is the way to the network; nil is none.
	Fetcher Fetcher
	// Noted reports whether content with a digest is to be given back one day; nil
	// stands for a host that notes everything.
	Noted func(sha256 string) bool
}

// New returns the machine whose files are below root. With root "/" it is the
// running system, with any other an offline tree: no service manager is asked
// and names of users are those of the tree.
func New(root string, o Options) *Host {
	return &Host{machine: &machine{
		root:    filepath.Clean(root),
		backups: o.Backups,
		digests: o.Digests,
		fetcher: o.Fetcher,
		noted:   o.Noted,
		users:   accounts{kind: "user", file: "/etc/passwd"},
		groups:  accounts{kind: "group", file: "/etc/group"},
	}}
}

// Root returns the directory that the machine's paths are below.
func (h *Host) Root() string { return h.root }

// Offline reports whether the machine is a tree rather than the running system.
func (h *Host) Offline() bool { return h.root != "/" }

// Path returns where a path of the machine is for this process. It resolves no
// links; to write, use the methods that take the machine's own path.
func (h *Host) Path(name string) string { return filepath.Join(h.root, name) }
