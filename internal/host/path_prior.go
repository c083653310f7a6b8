package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/resource"
)

// A PathPrior is what was at a path before it was managed, and what must be
// known to give it back when the resource is no longer there to ask. All kinds
// that claim paths note it under the claim, so that one can take over from
// another.
type PathPrior struct {
	Existed bool          `json:"existed"`
	Type    string        `json:"type,omitempty"`
	SHA256  string        `json:"sha256,omitempty"` // of the content, in the backup store
	Target  string        `json:"target,omitempty"`
	Mode    resource.Mode `json:"mode,omitzero"`
	UID     int           `json:"uid,omitempty"`
	GID     int           `json:"gid,omitempty"`
	// Made lists directories that were made for the path, the first one on top.
	Made []string `json:"made,omitempty"`

	Leaving Leaving `json:"leaving,omitzero"`

	size  int64
	trial func(ctx context.Context) error
}

// Leaving is what a resource wanted for the time when it is gone.
type Leaving struct {
	// Discard deletes the path instead of giving back what was there.
	Discard bool `json:"discard,omitempty"`
	// NoBackup keeps no copy of what is deleted.
	NoBackup bool `json:"no_backup,omitempty"`
	// Force deletes a directory with what is in it that nobody manages.
	Force bool `json:"force,omitempty"`
	// Follow gives back what a link at the path points to.
	Follow bool `json:"follow,omitempty"`
	// Sensitive keeps values out of differences.
	Sensitive bool `json:"sensitive,omitempty"`
}

// keptFromOthers reports whether it is a file that its owner and group alone may
// read.
func (p PathPrior) keptFromOthers() bool {
	const byOthers = 0o004
	return p.Existed && p.Type == TypeFile && p.Mode.Bits()&byOthers == 0
}

// Shown returns the difference without what is in a file that others may not read,
// as long as that is what was there before the path was managed: nobody knows what
// somebody else has put there, and a first change may have been tried, and failed.
func (f PathFinding) Shown(noted resource.Prior, name string) (resource.Diff, error) {
	if !f.Prior.keptFromOthers() || !f.Diff.Has(FieldContent) {
		return f.Diff, nil
	}
	before, managed, err := NotedPath(noted, name)
	if err != nil {
		return nil, err
	}
	if !managed || before.Existed && (before.SHA256 == "" || before.SHA256 == f.Prior.SHA256) {
		return f.Diff.RedactedIn(FieldContent), nil
	}
	return f.Diff, nil
}

func priorOf(i Info) PathPrior {
	return PathPrior{
		Existed: true, Type: i.Type(), Target: i.Target,
		Mode: i.Mode(), UID: i.UID(), GID: i.GID(), size: i.Size(),
	}
}

// NotedPath returns what was noted about a path, if anything was.
func NotedPath(noted resource.Prior, name string) (PathPrior, bool, error) {
	var p PathPrior
	data, ok := noted[resource.Path(name)]
	if !ok {
		return p, false, nil
	}
	if err := json.Unmarshal(data, &p); err != nil {
		return p, false, fmt.Errorf("cannot read what was noted about %q: %w", name, err)
	}
	return p, true, nil
}

// Note puts what is noted about a path among the rest.
func (p PathPrior) Note(noted resource.Prior, name string) error {
	data, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("cannot note what is at %q: %w", name, err)
	}
	noted[resource.Path(name)] = data
	return nil
}

// Remember notes what is at a path, unless it was noted before, and how the
// resource wants to leave. It returns the prior to keep from now on, a new one
// when something is to be added, and whether there is.
func Remember(noted resource.Prior, name string, now PathPrior, leaving Leaving) (resource.Prior, bool, error) {
	raw, changed, err := RememberIn(noted, name, now, leaving)
	if !changed {
		return noted, false, err
	}
	added := maps.Clone(noted)
	if added == nil {
		added = resource.Prior{}
	}
	added[resource.Path(name)] = raw
	return added, true, nil
}

// RememberIn is Remember for one of many paths: it returns what is to be put
// into the prior, and whether anything is.
func RememberIn(
	noted resource.Prior, name string, now PathPrior, leaving Leaving,
) (raw json.RawMessage, changed bool, err error) {
	raw, ok := noted[resource.Path(name)]
	if ok && leaving == (Leaving{}) && !bytes.Contains(raw, []byte(`"leaving"`)) {
		return nil, false, nil // the usual case, without decoding
	}
	if ok {
		earlier, _, err := NotedPath(noted, name)
		if err != nil || earlier.Leaving == leaving {
			return nil, false, err
		}
		now = earlier
	}
	now.Leaving = leaving
	raw, err = json.Marshal(now)
	if err != nil {
		return nil, false, fmt.Errorf("cannot note what is at %q: %w", name, err)
	}
	return raw, true, nil
}

// NotePath returns what is at a path of the machine, links not followed. The
// content of a file is told by its digest; Stage keeps it when it is replaced.
func (h *Host) NotePath(name string) (PathPrior, error) { return h.note(name, false) }

func (h *Host) note(name string, follow bool) (PathPrior, error) {
	p, err := h.resolve(name, follow)
	var missing *MissingParentError
	if errors.As(err, &missing) {
		return PathPrior{Made: h.missingParents(name, missing)}, nil
	}
	if errors.Is(err, unix.ENOTDIR) {
		return PathPrior{}, nil // what is in the way is another path's matter
	}
	if err != nil {
		return PathPrior{}, err
	}
	defer p.close()
	i, err := p.stat()
	if errors.Is(err, unix.ENOENT) {
		return PathPrior{}, nil
	}
	if err != nil {
		return PathPrior{}, explain("look at", name, err)
	}
	prior := priorOf(i)
	if i.Type() == TypeFile {
		text, i, _, err := h.read(name, p, FileSpec{Sensitive: true})
		if err != nil {
			return PathPrior{}, err
		}
		prior.SHA256 = i.returnable(text.SHA256)
	}
	return prior, nil
}

// missingParents lists the directories above a path that are not there, the
// first one on top. The error is what resolving the path came to.
func (h *Host) missingParents(name string, missing *MissingParentError) []string {
	var made []string
	// Where no link is on the way, all from the first one on.
	straight := strings.HasPrefix(name, missing.Parent+"/")
	for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) {
		if straight {
			if made = append([]string{dir}, made...); dir == missing.Parent {
				break
			}
			continue
		}
		p, err := h.resolve(dir, true)
		if err == nil {
			_, err = p.stat()
			p.close()
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		made = append([]string{dir}, made...)
	}
	return made
}
