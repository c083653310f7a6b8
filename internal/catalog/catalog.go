// Package catalog turns the group directories of a source into typed, checked
// resources for one host: included, merged, templated and validated, with the
// place of everything that is wrong.
//
// It reads the source's tree and nothing else: no file of the host, no
// environment, no clock. The same tree, facts and version give the same catalog.
package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"

	"trued.dev/trued/internal/facts"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/secret"
	"trued.dev/trued/internal/window"
)

// An Input is all that a catalog is made from.
type Input struct {
	// Name is the source's.
	Name string
	// Tree is the source's tree at one commit, rooted at the repository.
	Tree fs.FS
	// Group is the group's path in the tree; empty asks hosts.yaml.
	Group string
	// HostName is what hosts.yaml and the hosts directories know the host by.
	HostName string
	Facts    facts.Facts
	// Modules are all kinds that there are.
	Modules []resource.Module
	// Version is the agent's, for requires_trued.
	Version string
	// Digests remembers what files of the tree come to, so that those that are
	// known need not be read; nil remembers nothing.
	Digests Digests
	// Secrets are the identities that secrets are decrypted with; nil decrypts
	// none, and what hangs on one is pending.
	Secrets *secret.Keys
}

// Digests keeps the SHA-256 of contents, in hexadecimal, by what a tree's files
// are known by: the Stringer that fs.FileInfo.Sys returns, such as an object id.
// It may forget at any time.
type Digests interface {
	Digest(id string) (sha256 string, known bool)
	Remember(id, sha256 string)
}

// Digest stands for everything but the tree and the modules: with the commit,
// an equal digest means an equal catalog.
func (in Input) Digest() (string, error) {
	data, err := json.Marshal(struct {
		Name, Group, HostName, Version string
		Facts                          facts.Facts
	}{in.Name, in.Group, in.HostName, in.Version, in.Facts})
	if err != nil {
		return "", fmt.Errorf("cannot digest facts: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// A Catalog is all resources of one source for a host, in the order written.
type Catalog struct {
	// Source is the source's name.
	Source string
	// Group is the path of the host's group.
	Group   string
	Entries []Entry
	// Absences are resources that are written but not for this host.
	Absences []Absence
	// AllowEmpty permits a catalog without entries.
	AllowEmpty bool
	// PruneLimit is how many claims may leave at once; nil for the default.
	PruneLimit *int
	// Windows are when what is in it may be changed, by all of the groups.
	Windows window.Set
	// Reboot says whether the host may reboot by itself: the last of the groups that
	// says anything counts. nil is that none does.
	Reboot *window.Reboot
	// Health tells whether the host is healthy, in the order in which it is written.
	Health []Probe
	// Warnings are remarks about what is allowed and probably not meant.
	Warnings []string

	small *small
}

// Shed lets go of the content that is kept in memory; what is asked for from
// then on is read from the source.
func (c *Catalog) Shed() {
	if c.small != nil {
		c.small.shed()
	}
}

// An Entry is one resource of a catalog.
type Entry struct {
	Address resource.Address
	// Resource is loaded and valid; nil when Pending.
	Resource resource.Resource
	Module   resource.Module
	Origin   resource.Origin
	// Pending says which fact must be known before the resource can be. It is
	// neither applied nor pruned until then. Address.Name is empty when the name
	// itself hangs on the fact: then nothing of that kind may be pruned.
	Pending string
	// Each is the key of for_each, or empty.
	Each string
	// Overrides are the places that laid attributes over it, the last one last.
	Overrides []resource.Origin
	// Uses are the vars and facts that its attributes and templates name.
	Uses []Use
}

// A Use is a var or fact that a resource was made with.
type Use struct {
	// Path is as in a manifest, such as "vars.domain".
	Path string `json:"path"`
	// Origin is where a var was last set; empty for facts.
	Origin resource.Origin `json:"origin"`
}

// An Absence is a resource that is written but left out on this host.
type Absence struct {
	Address resource.Address
	Origin  resource.Origin
	// Why is the `when` that is false, or the exclude that names it.
	Why string
}

// Find returns the entry with the address.
func (c *Catalog) Find(a resource.Address) (*Entry, bool) {
	for i := range c.Entries {
		if c.Entries[i].Address == a {
			return &c.Entries[i], true
		}
	}
	return nil, false
}

// Load makes the catalog of a host. Its error is an *Errors that lists all that
// is wrong with what concerns the host.
func Load(in Input) (*Catalog, error) {
	t := openTree(in.Name, in.Tree)
	t.known = in.Digests
	return newLoader(in, t).load()
}
