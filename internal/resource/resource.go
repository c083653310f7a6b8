// Package resource is the vocabulary that the catalog, the engine and the
// modules share: what a resource is, what it owns, what it waits for, and how
// a difference is said.
//
// It holds words and no machinery: it touches no file, starts no process and
// imports no other package of this program.
package resource

import (
	"context"
	"time"
)

// A Module implements one kind of resource. What it has read it may keep until
// the run ends, and must be a Renewer then.
type Module interface {
	// Kind is the key that names the kind in a manifest, such as "file".
	Kind() string
	// New returns an empty value for strict decoding. Its exported fields carry
	// `yaml` tags (the key in a manifest), `doc` tags (one sentence for the
	// reference) and, where it is one of a few words, `words` tags with commas
	// between them (for the schema that editors read). It embeds Meta.
	New() Resource
	// Absent returns the value that gives the host back what was there before
	// the claims of held came under management. Its Check and Apply are called
	// like those of any other value.
	Absent(held Held) (Resource, error)
}

// A Resource is one desired thing. Check and Apply are called from several
// goroutines for different resources, never at once for the same one.
type Resource interface {
	// Common returns the keys that every kind takes.
	Common() *Meta
	// Name is the second half of the address: a cleaned path, a unit name.
	Name() string
	// Validate reports everything that is wrong with the value in itself,
	// without looking at a host. It joins *FieldError values.
	Validate() error
	// Claims are what the resource owns on the host.
	Claims() []Claim
	// Check compares the host with the value. It never writes, is cheap, and
	// never guesses: what cannot be told yet is Unknown or Pending.
	Check(ctx context.Context, view View) (Finding, error)
	// Apply brings about exactly the changes that found.Diff states, which may
	// be fewer than Check found. It is called right after a Check.
	Apply(ctx context.Context, view View, found Finding) (Result, error)
}

// Meta holds the keys that every kind takes. What steers loading (when,
// for_each, raw, override) is used up by the loader and is not here.
type Meta struct {
	Requires  []string      `yaml:"requires" json:"-" doc:"addresses that must have succeeded first"`
	Drift     string        `yaml:"drift" json:"-" words:"repair,report" doc:"repair (default) or report"`
	Ignore    []string      `yaml:"ignore" json:"-" doc:"attributes to leave alone once the resource exists"`
	Prune     *bool         `yaml:"prune" json:"-" doc:"false: leave it on the host when it leaves Git"`
	Sensitive bool          `yaml:"sensitive" json:"sensitive,omitempty" doc:"true: its values never leave the process"`
	Timeout   time.Duration `yaml:"timeout" json:"-" doc:"how long the resource may take, such as 5m"`
}

// Common lets a value that embeds Meta satisfy Resource.
func (m *Meta) Common() *Meta { return m }

// Keeps reports whether the resource stays on the host when it leaves Git.
func (m *Meta) Keeps() bool { return m.Prune != nil && !*m.Prune }

// A View is what the engine tells a resource about itself and its neighbours.
type View struct {
	// Prior is what the resource noted last; nil before the first apply.
	Prior Prior
	// Held lists the claims that the resource held after the last run. What is
	// held and no longer claimed has left Git.
	Held []Claim
	// Owed lists the reactions that are due for the resource.
	Owed []Reaction
	// Owner returns the resource of this catalog that holds a claim. It is
	// never nil.
	Owner func(Claim) (Address, bool)
	// Offline is true when the tree is not the running system, so that no
	// service manager and no kernel can be asked.
	Offline bool
}

// A Finding is what a Check found.
type Finding struct {
	// Diff is empty when the host is as desired.
	Diff Diff
	// Creates is true when the thing does not exist yet: `ignore` counts only
	// once it does.
	Creates bool
	// Prior is what to note about the host from now on; nil keeps what was
	// noted. It is on disk before Apply is called.
	Prior Prior
	// Owes names the reactions that applying Diff will make this resource itself
	// owe, such as a restart for a changed unit file.
	Owes []Reaction
	// Unknown says what must be applied before the difference can be told.
	Unknown string
	// Pending says what the host must first come to before the resource can be
	// checked or applied, such as "no network address yet".
	Pending string
	// Note is a remark about a resource that is in order.
	Note string
	// Witness stands for all that the finding rests on; nil where the module
	// cannot say.
	Witness Witness
}

// InOrder reports whether there is nothing to do and nothing open.
func (f Finding) InOrder() bool {
	return len(f.Diff) == 0 && f.Unknown == "" && f.Pending == ""
}

// A Witness is what a Check saw of the host, in its module's own words: what an
// inode told, or the value of a kernel's parameter. As long as all of it is as it
// was, and the desired state, the inventory and the module's code are, another
// Check finds the same. It holds nothing of a sensitive value.
type Witness []byte

// A Result is what an Apply left behind.
type Result struct {
	// Prior replaces what was noted; nil keeps it.
	Prior Prior
	// Settled is true when what the resource owed was done on the way, such as a
	// start after the last cause of a restart.
	Settled bool
	// Pending says what is still open although Apply did all it could, such as a
	// unit that was enabled in a tree that is not booted.
	Pending string
	// Changes are what only applying could tell, such as what a command printed.
	// They are told along with the stated difference.
	Changes Diff
}

// Held is an entry of the inventory: what a resource held after the last run.
type Held struct {
	Address Address `json:"address"`
	Claims  []Claim `json:"claims"`
	Prior   Prior   `json:"prior,omitempty"`
}
