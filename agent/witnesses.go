package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"iter"
	"os"
	"slices"
	"syscall"

	"trued.dev/trued/internal/apply"
	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/state"
)

// Most runs find what the run before them found: the same commit, the same
// facts, the same state, and a host in order. For these the last full run leaves
// what each of its resources saw of the host, the witnesses. While all of them
// hold there is nothing to load, to plan or to apply, and a run comes to the
// same end and tells the same. Where one does not, the run is a full one.
//
// The witnesses are in memory and in a file. The file is a cache: it counts for
// the one key that it was made for, and any of it may be lost. It holds nothing
// of a value, so a sensitive resource may be in it.
type witnesses struct {
	file  string
	key   witnessKey
	count int
	// total is how many resources there are, whole is true when all of them have
	// witnesses and there was nothing to do and nothing open.
	total int
	whole bool
	// groups are those of the sources, in the order of the configuration.
	groups []string
	// body holds kind, name and witness of each resource.
	body string
}

// A witnessKey stands for everything that a run in order depends on beside the
// host: the program, its configuration, each source's commit with what it is
// loaded with, and the inventory.
type witnessKey [sha256.Size]byte

// witnessMagic is changed with the format; another is not read.
const witnessMagic = "trued witnesses 1\n"

// witnessSize is about what one file takes.
const witnessSize = 128

// stands reports whether the host is as the last full run left it, by the
// witnesses of that run. It tells of no run that would do anything but look.
func (r *run) stands(ctx context.Context) bool {
	key, ok := r.witnessKey()
	w := &r.agent.witnesses
	if r.partial() {
		r.keyBefore = key
		return false
	}
	if r.agent.store.Head().Reboot != nil && !r.agent.ruled {
		return false // whether it may be made is in the catalog
	}
	if !ok || !w.fit(key) || len(w.groups) != len(r.sources) || !w.hold(ctx, r.kit.byKind) {
		return false
	}
	for i, s := range r.sources {
		s.stand(r, w.groups[i])
	}
	r.stood = true
	r.stream.SetSources(r.states()...)
	return true
}

// stand makes a source what loading it would have, but for its catalog.
func (s *sourceRun) stand(r *run, group string) {
	s.newest, _ = s.source.Last()
	s.revision, s.in, s.group, s.stood = s.newest.Commit, s.inputNow(r), group, true
}

// witnessKey returns the key of a run that has fetched. There is none when
// something is wrong, owed, or to be done.
func (r *run) witnessKey() (key witnessKey, ok bool) {
	snap := r.agent.store.Head()
	if r.agent.config.Mode != Enforce || r.req.PruneSource != "" || len(snap.Owed) > 0 ||
		snap.Open != nil || snap.Running != nil || snap.Trial != nil || snap.Unwell != nil || snap.Changed == 0 {
		return key, false
	}
	config, err := json.Marshal(r.agent.config)
	if err != nil {
		return key, false
	}
	if r.unruly != nil {
		return key, false
	}
	parts := []string{string(config), r.agent.rules.Digest(), r.agent.opt.Version, programStamp(), fmt.Sprint(snap.Changed)}
	for _, s := range r.sources {
		rev, ok := s.source.Last()
		if s.err != nil || !ok || rev.Commit != s.before.Applied {
			return key, false
		}
		loaded, err := s.key(rev.Commit, s.inputNow(r))
		if err != nil {
			return key, false
		}
		parts = append(parts, s.name(), loaded.commit, loaded.input)
	}
	data, err := json.Marshal(parts)
	return sha256.Sum256(data), err == nil
}

// programStamp tells this program from another of the same version.
func programStamp() string {
	var st syscall.Stat_t
	if syscall.Stat("/proc/self/exe", &st) != nil {
		return ""
	}
	return fmt.Sprint(st.Dev, st.Ino, st.Size, st.Mtim.Nano())
}

// attest keeps the witnesses of a run that found everything in order and wrote
// down nothing new, or lets go of those that there were.
func (r *run) attest(verdict Verdict, outcomes []*apply.Outcome) error {
	w := &r.agent.witnesses
	if r.stood {
		return nil
	}
	fresh := witnesses{file: w.file, total: len(outcomes)}
	if r.partial() {
		if w.key != r.keyBefore {
			return nil // of a host of another kind: they help nobody
		}
		fresh.total, fresh.groups = w.total, w.groups
		w.copyTo(&fresh, outcomes)
	}
	r.testify(&fresh, verdict, outcomes)
	if fresh.key == w.key && fresh.body == w.body && fresh.whole == w.whole {
		return nil
	}
	*w = fresh
	if !w.whole {
		return nil
	}
	return w.save()
}

// testify takes the witnesses of what was found in order. They are whole when
// there is nothing else, and nothing that only a full run would do.
func (r *run) testify(w *witnesses, verdict Verdict, outcomes []*apply.Outcome) {
	key, ok := r.witnessKey()
	quiet := r.partial() || !r.rec.noteworthy && r.agent.store.Head().Changed == r.changed
	body := make([]byte, 0, len(w.body)+witnessSize*len(outcomes))
	body = append(body, w.body...)
	plain := true
	for _, o := range outcomes {
		s := o.Step
		if _, examines := s.Module.(resource.Examiner); !examines || !attests(o) {
			plain = false
			continue
		}
		body = appendPart(body, s.Address.Kind)
		body = appendPart(body, s.Address.Name)
		body = appendPart(body, string(s.Finding.Witness))
		w.count++
	}
	w.key, w.body = key, string(body)
	w.whole = ok && verdict == InOrder && quiet && plain && w.count == w.total
	if w.groups == nil {
		for _, s := range r.sources {
			w.groups = append(w.groups, s.group)
		}
	}
}

// attests reports whether a resource was seen to be as desired, last of all, and
// has something to show for it.
func attests(o *apply.Outcome) bool {
	switch o.Status {
	case apply.InOrder, apply.Applied, apply.Repaired:
		return o.Why == "" && !o.Step.Prune && o.Step.Finding.InOrder() && o.Step.Finding.Witness != nil
	}
	return false
}

// copyTo copies the witnesses but for those of some outcomes.
func (w *witnesses) copyTo(to *witnesses, but []*apply.Outcome) {
	left := make(map[resource.Address]bool, len(but))
	for _, o := range but {
		left[o.Step.Address] = true
	}
	body := make([]byte, 0, len(w.body))
	for a, witness := range w.all() {
		if left[a] {
			continue
		}
		body = appendPart(body, a.Kind)
		body = appendPart(body, a.Name)
		body = appendPart(body, witness)
		to.count++
	}
	to.body = string(body)
}

// all are the resources that have witnesses, in the order of the body.
func (w *witnesses) all() iter.Seq2[resource.Address, string] {
	return func(yield func(resource.Address, string) bool) {
		body := w.body
		for range w.count {
			var part [3]string
			for i := range part {
				part[i], body, _ = cutPart(body)
			}
			if !yield(resource.Address{Kind: part[0], Name: part[1]}, part[2]) {
				return
			}
		}
	}
}

// suspects returns those of some resources that do not have a witness that holds.
func (w *witnesses) suspects(ctx context.Context, of []resource.Address, modules map[string]resource.Module) []resource.Address {
	holds := make(map[resource.Address]bool, len(of))
	for _, a := range of {
		holds[a] = false
	}
	for a, witness := range w.all() {
		if _, asked := holds[a]; !asked {
			continue
		}
		if m, ok := modules[a.Kind].(resource.Examiner); ok {
			holds[a] = m.Holds(ctx, a.Name, resource.Witness(witness))
		}
	}
	return slices.DeleteFunc(slices.Clone(of), func(a resource.Address) bool { return holds[a] })
}

// counts are those of a run in which everything stands.
func (w *witnesses) counts() report.Counts {
	return report.Counts{Total: w.count, InOrder: w.count}
}

// tally are the same by kind.
func (w *witnesses) tally() state.Tallies {
	kinds := map[string]uint64{}
	for body := w.body; body != ""; {
		var kind string
		var ok bool
		if kind, body, ok = cutPart(body); !ok {
			break
		}
		kinds[kind]++
		for range 2 { // name and witness
			if _, body, ok = cutPart(body); !ok {
				break
			}
		}
	}
	var all state.Tallies
	for kind, n := range kinds {
		all = all.Add(state.Tally{Kind: kind, Outcome: string(apply.InOrder), Count: n})
	}
	return all
}

// hold reports whether every witness holds. Those of modules that ask the host for
// many resources at once come last.
func (w *witnesses) hold(ctx context.Context, modules map[string]resource.Module) bool {
	var later map[resource.Foreseer][]resourceWitness
	body := w.body
	for range w.count {
		var part [3]string
		for i := range part {
			var ok bool
			if part[i], body, ok = cutPart(body); !ok {
				return false
			}
		}
		m, ok := modules[part[0]].(resource.Examiner)
		if !ok || ctx.Err() != nil {
			return false
		}
		if f, ok := m.(resource.Foreseer); ok {
			if later == nil {
				later = map[resource.Foreseer][]resourceWitness{}
			}
			later[f] = append(later[f], resourceWitness{part[1], resource.Witness(part[2])})
		} else if !m.Holds(ctx, part[1], resource.Witness(part[2])) {
			return false
		}
	}
	for m, all := range later {
		if !holdTogether(ctx, m, all) {
			return false
		}
	}
	return body == ""
}

// A resourceWitness is the witness of a resource that is known by its name.
type resourceWitness struct {
	name    string
	witness resource.Witness
}

func holdTogether(ctx context.Context, m resource.Foreseer, all []resourceWitness) bool {
	names := make([]string, len(all))
	for i, one := range all {
		names[i] = one.name
	}
	m.Foresee(ctx, names)
	defer m.Foresee(ctx, nil)
	return !slices.ContainsFunc(all, func(one resourceWitness) bool {
		return ctx.Err() != nil || !m.Holds(ctx, one.name, one.witness)
	})
}

// fit reports whether there are witnesses for the key, in memory or in the file.
func (w *witnesses) fit(key witnessKey) bool {
	return w.key == key && w.whole || w.load(key) && w.key == key
}

// load reads the file; one that is missing, damaged or of another key is none.
func (w *witnesses) load(want witnessKey) bool {
	data, err := os.ReadFile(w.file)
	if err != nil {
		return false
	}
	rest, ok := bytes.CutPrefix(data, []byte(witnessMagic))
	if !ok || len(rest) < 2*sha256.Size || [sha256.Size]byte(rest[sha256.Size:]) != want {
		return false
	}
	if sum := sha256.Sum256(rest[sha256.Size:]); !bytes.Equal(sum[:], rest[:sha256.Size]) {
		return false
	}
	return w.decode(string(rest[sha256.Size:]))
}

func (w *witnesses) decode(text string) bool {
	read := witnesses{file: w.file, key: witnessKey([]byte(text[:sha256.Size]))}
	head, body, ok := cutPart(text[sha256.Size:])
	var h witnessHead
	if !ok || json.Unmarshal([]byte(head), &h) != nil {
		return false
	}
	read.count, read.total, read.whole, read.groups, read.body = h.Count, h.Count, true, h.Groups, body
	*w = read
	return true
}

type witnessHead struct {
	Count  int      `json:"count"`
	Groups []string `json:"groups"`
}

func (w *witnesses) save() error {
	head, err := json.Marshal(witnessHead{w.count, w.groups})
	if err != nil {
		return err
	}
	data := slices.Concat(w.key[:], appendPart(nil, string(head)), []byte(w.body))
	sum := sha256.Sum256(data)
	if err := writeCache(w.file, slices.Concat([]byte(witnessMagic), sum[:], data)); err != nil {
		return fmt.Errorf("cannot write cache %q: %w", w.file, err)
	}
	return nil
}

func appendPart(b []byte, part string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(part))), part...)
}

func cutPart(s string) (part, rest string, ok bool) {
	var n uint64
	for shift := 0; ; shift += 7 {
		if s == "" || shift > 28 {
			return "", "", false
		}
		c := s[0]
		s = s[1:]
		n |= uint64(c&0x7f) << shift
		if c < 0x80 {
			break
		}
	}
	if n > uint64(len(s)) {
		return "", "", false
	}
	return s[:n], s[n:], true
}
