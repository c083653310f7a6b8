package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/plan"
	"trued.dev/trued/internal/report/sinks"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
)

// BackupConfig bounds what is kept of replaced files; zero is the default.
type BackupConfig struct {
	Size sinks.Bytes   `yaml:"size" doc:"the most that copies take which nothing managed may need again; 1GiB"`
	Age  time.Duration `yaml:"age" doc:"how long such a copy is kept; 2160h"`
}

const (
	defaultBackupSize = 1 << 30
	defaultBackupAge  = 90 * 24 * time.Hour
	// mostBackups keeps the list of copies readable, and quick to read.
	mostBackups = 10_000
	// boundEvery is how often copies are looked at for their age alone.
	boundEvery = 24 * time.Hour
)

func (c BackupConfig) bounds() host.Bounds {
	b := host.Bounds{Size: int64(c.Size), Age: c.Age, Notes: mostBackups}
	if b.Size == 0 {
		b.Size = defaultBackupSize
	}
	if b.Age == 0 {
		b.Age = defaultBackupAge
	}
	return b
}

func (c BackupConfig) validate() error {
	if c.Age < 0 {
		return fmt.Errorf("backups: age: %s is less than nothing", c.Age)
	}
	return nil
}

// credit has copies note for which resource of the plan, and at which commit, a
// file is replaced.
func (r *run) credit(p *plan.Plan) {
	run, revisions := r.stream.ID(), map[string]string{}
	for _, s := range r.sources {
		revisions[s.name()] = s.revision
	}
	var owners map[string]*plan.Step // most runs replace nothing
	r.agent.backups.ForWhom(func(name string) host.Credit {
		if owners == nil {
			owners = pathOwners(p)
		}
		for at := name; ; at = path.Dir(at) {
			if s := owners[at]; s != nil {
				return host.Credit{Resource: s.Address, Revision: revisions[s.Source], Run: run}
			}
			if at == "/" || at == "." {
				return host.Credit{Run: run}
			}
		}
	})
}

func pathOwners(p *plan.Plan) map[string]*plan.Step {
	owners := map[string]*plan.Step{}
	for _, s := range p.Steps {
		claims := s.View.Held
		if s.Resource != nil && !s.Prune {
			claims = slices.Concat(claims, s.Resource.Claims())
		}
		for _, c := range claims {
			if c.Space == resource.SpacePath && owners[c.Name] == nil {
				owners[c.Name] = s
			}
		}
	}
	return owners
}

// boundBackups keeps the store of copies within its bounds, after a run that
// kept some, and once a day. What a module noted may name copies that it needs.
func (r *run) boundBackups() error {
	a := r.agent
	a.backups.ForWhom(nil)
	if r.partial() || !r.rec.noteworthy && !a.backups.Due(time.Now().Add(-boundEvery)) {
		return nil
	}
	if err := a.store.Reload(); err != nil {
		return err
	}
	needed := map[string]bool{}
	snap := a.store.Snapshot()
	for _, held := range []map[resource.Address]state.Entry{snap.Inventory, snap.Dropped} {
		for _, e := range held {
			for _, note := range e.Prior {
				digestsIn(note, needed)
			}
		}
	}
	return a.backups.Bound(time.Now(), a.config.Backups.bounds(), needed)
}

// digestsIn finds all that may be a SHA-256 in what a module noted. Only the
// module knows what it means by it.
func digestsIn(note []byte, found map[string]bool) {
	from := -1
	for i := 0; i <= len(note); i++ {
		if i < len(note) && (note[i] >= '0' && note[i] <= '9' || note[i] >= 'a' && note[i] <= 'f') {
			if from < 0 {
				from = i
			}
			continue
		}
		if from >= 0 && i-from == 64 {
			found[string(note[from:i])] = true
		}
		from = -1
	}
}

// Backups returns what there are copies of, the newest first; with a path, of
// that file or of what is below that directory.
func (a *Agent) Backups(of string) ([]host.Backup, error) {
	list, err := a.backups.List()
	if err != nil {
		return nil, err
	}
	if of != "" {
		of = host.CleanPath(of)
		list = slices.DeleteFunc(list, func(b host.Backup) bool {
			return b.Path != of && !strings.HasPrefix(b.Path, strings.TrimSuffix(of, "/")+"/")
		})
	}
	slices.Reverse(list)
	return list, nil
}

// ErrNoBackup is returned where there is no copy by a name.
var ErrNoBackup = errors.New("there is no such backup")

// Backup returns the copy with an id, or the newest one of a path.
func (a *Agent) Backup(word string) (host.Backup, error) {
	list, err := a.Backups("")
	if err != nil {
		return host.Backup{}, err
	}
	for _, b := range list {
		if b.ID == word || path.IsAbs(word) && b.Path == host.CleanPath(word) {
			return b, nil
		}
	}
	return host.Backup{}, fmt.Errorf("%w: %q", ErrNoBackup, word)
}

// BackupContent opens a copy.
func (a *Agent) BackupContent(b host.Backup) (io.ReadCloser, error) { return a.backups.Content(b) }

// CompareBackup returns the difference between what is there now and a copy, as
// restoring it would change it.
func (a *Agent) CompareBackup(ctx context.Context, b host.Backup) (resource.Diff, error) {
	spec, err := a.backupSpec(ctx, b)
	if err != nil {
		return nil, err
	}
	found, err := a.host.CompareFile(ctx, b.Path, spec)
	return found.Diff, err
}

// RestoreBackup puts a copy back, where it was or at another path, with the
// attributes that it had. What is there now is kept in its turn. It returns the
// resource that manages the path, which will undo this as drift, if there is one.
func (a *Agent) RestoreBackup(ctx context.Context, b host.Backup, to string, wait time.Duration) (managed resource.Address, err error) {
	unlock, err := a.store.Lock(ctx, wait)
	if err != nil {
		return managed, err
	}
	defer unlock()
	if err := a.store.Reload(); err != nil {
		return managed, err
	}
	spec, err := a.backupSpec(ctx, b)
	if err != nil {
		return managed, err
	}
	if err := a.host.WriteFile(ctx, to, spec); err != nil {
		return managed, fmt.Errorf("cannot restore backup %s: %w", b.ID, err)
	}
	return a.managerOf(to), nil
}

// managerOf returns the resource that holds a path, or a directory above it as a
// whole.
func (a *Agent) managerOf(name string) resource.Address {
	var owner resource.Address
	for addr, e := range a.store.Snapshot().Inventory {
		for _, c := range e.Claims {
			if c.Space == resource.SpacePath && c.Name == name {
				return addr
			}
		}
		for c := range e.Prior { // the files of a directory's tree
			if c.Space == resource.SpacePath && c.Name == name {
				owner = addr
			}
		}
	}
	return owner
}

func (a *Agent) backupSpec(ctx context.Context, b host.Backup) (host.FileSpec, error) {
	open := func() (io.ReadCloser, error) { return a.backups.Content(b) }
	r, err := open()
	if err != nil {
		return host.FileSpec{}, err
	}
	defer r.Close()
	size, sum, err := host.DigestOf(ctx, r)
	if err != nil {
		return host.FileSpec{}, fmt.Errorf("cannot read backup %s of %q: %w", b.ID, b.Path, err)
	}
	if !b.Secret && sum != b.Name {
		return host.FileSpec{}, fmt.Errorf("backup %s of %q is damaged: it does not have its digest", b.ID, b.Path)
	}
	return host.FileSpec{
		Content: resource.Lazy(size, sum, false, open), Sensitive: b.Secret, Backup: true,
		Mode: b.Mode, Owner: fmt.Sprint(b.UID), Group: fmt.Sprint(b.GID), Xattrs: b.Xattrs,
	}, nil
}
