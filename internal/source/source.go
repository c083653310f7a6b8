package source

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	"trued.dev/trued/internal/host"
)

// A Source is a repository or a directory. Its methods may be called from
// several goroutines; fetches exclude each other, also across processes.
type Source interface {
	Name() string
	// URL is where the source is, without credentials.
	URL() string
	// Fetch brings the newest commit into the store, when it descends from the
	// applied one, and returns it. An error is an *Error; what was fetched
	// before stays usable.
	Fetch(ctx context.Context) (Revision, error)
	// Accept is Fetch for an operator who accepts that history was rewritten: of the
	// commit whose name begins as given, and of no other; empty is any.
	Accept(ctx context.Context, commit string) (Revision, error)
	// Last returns the commit that was fetched last.
	Last() (Revision, bool)
	// Keep names commits whose trees are not to be lost either, in place of those
	// that it named before. The caller says so after a start, too.
	Keep(commits ...string) error
	// Obtain brings a commit into the store beside the newest one, whatever it
	// descends from and without asking the judge: the caller knows that it agreed, and
	// has the commit kept.
	Obtain(ctx context.Context, commit string) error
	// Revision describes a commit that the store holds: the last one, the applied
	// one, or one that is kept.
	Revision(commit string) (Revision, error)
	// Tree returns a commit's files. It implements fs.ReadDirFS, fs.ReadFileFS,
	// fs.StatFS and fs.ReadLinkFS. Reading may return ErrDamaged.
	Tree(commit string) (fs.FS, error)
	// Raw returns a commit as Git stores it, with its signature.
	Raw(commit string) ([]byte, error)
	// SetApplied names the commit that the host is at, from which all later
	// ones must descend. The caller says so after each run, and after a start
	// from its own state, so that a lost store does not forget it.
	SetApplied(commit string) error
	Status() Status
	Close() error
}

// A Revision is a commit.
type Revision struct {
	Commit string `json:"commit"`
	Ref    string `json:"ref,omitempty"`
	Author string `json:"author,omitempty"`
	Email  string `json:"email,omitempty"`
	// Date is when it was written, Committed when it came to be as it is; both are
	// those of 1970 for a directory.
	Date      time.Time `json:"date,omitzero"`
	Committed time.Time `json:"committed,omitzero"`
	Subject   string    `json:"subject,omitempty"`
}

// Short returns as much of the commit's name as people read.
func (r Revision) Short() string {
	if len(r.Commit) > 12 {
		return r.Commit[:12]
	}
	return r.Commit
}

// Options are what a source works with beside its configuration.
type Options struct {
	// Child is the command that runs ServeFetch; empty fetches within this
	// process, unconfined.
	Child []string
	// Notify is told what is worth an event; nil drops it.
	Notify func(Event)
	// Judge, unless nil, has to agree to each commit.
	Judge Judge
	// Now is the clock; nil is the machine's.
	Now func() time.Time

	// access is what opens the server, in place of the files that the
	// configuration names.
	access *host.Access
	// tagged, unless nil, is given an annotated tag that was followed.
	tagged func(tag []byte)
}

// The types of events.
const (
	EventUpdated  = "source.updated"
	EventRepaired = "source.repaired"
	EventRefused  = "source.refused"
	// EventUnreachable is that of a source which was never fetched, EventStale
	// that of one whose last commit is kept to.
	EventUnreachable = "source.unreachable"
	EventStale       = "source.stale"
	// EventRecovered ends what the last three began.
	EventRecovered = "source.recovered"
)

// An Event is something about a source that leaves the host.
type Event struct {
	Type     string
	Source   string
	URL      string
	Branch   string
	Revision string
	// Applied is the other commit of a refusal.
	Applied string
	// Reason is one word for why a commit is not trusted, Signer who signed it, as
	// far as that is known.
	Reason, Signer string
	Message        string
	Err            error
}

// Open opens a source whose store is in a directory of its own. It needs no
// network, and succeeds when the store is damaged: the next Fetch mends it.
func Open(cfg Config, storeDir string, o Options) (Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("source %q: %w", cfg.Name, err)
	}
	cfg.Limits = cfg.Limits.withDefaults()
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Notify == nil {
		o.Notify = func(Event) {}
	}
	c, err := openCache(cfg, storeDir, o)
	if err != nil {
		return nil, err
	}
	if cfg.Dir != "" {
		return &directory{cache: c, known: map[string]stamped{}}, nil
	}
	return &repository{cache: c}, nil
}
