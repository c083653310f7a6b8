package host

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/resource"
)

// What was seen at a path, as part of a witness: a byte that says what follows,
// what the inode told, and the names that its owner and group were asked for.
const (
	sawNothing    byte = iota // there was nothing
	sawAttributes             // which inode, its type, mode, owner and group
	sawAll                    // besides, size and times: whatever is in it

	sawForm  byte = 3
	sawOwner byte = 4
	sawGroup byte = 8
)

const (
	attributesSize = 8 + 8 + 4 + 4 + 4
	allSize        = attributesSize + 8 + 8 + 8
)

// sight is what comparing a path saw. The zero value is no witness.
type sight struct {
	form byte
	ok   bool
	st   unix.Stat_t
}

// seeAll takes what an inode told at a time for its content as well. A write
// that follows within the same tick of the file system's clock leaves no trace,
// so what was changed just now is no witness.
func seeAll(i Info, at time.Time) sight {
	return sight{form: sawAll, ok: !stampOf(&i.st).racy(at), st: i.st}
}

// seeAttributes takes what an inode told but for its content.
func seeAttributes(i Info) sight { return sight{form: sawAttributes, ok: true, st: i.st} }

// see takes from a path what comparing it looks at, its target if it is a link.
func see(i Info, at time.Time) sight {
	if i.Type() == TypeLink {
		return seeAll(i, at)
	}
	return seeAttributes(i)
}

// Witness returns what was seen at the path, to be told again from the names of
// owner and group that it was compared with; nil when that is not enough.
func (f PathFinding) Witness(owner, group string) resource.Witness {
	return f.AppendWitness(nil, owner, group)
}

// AppendWitness is Witness for one of many paths. It returns nil when what was
// seen is not enough.
func (f PathFinding) AppendWitness(w resource.Witness, owner, group string) resource.Witness {
	s := f.seen
	if !s.ok {
		return nil
	}
	if s.form == sawNothing { // which is nobody's
		owner, group = "", ""
	}
	if owner != "" {
		s.form |= sawOwner
	}
	if group != "" {
		s.form |= sawGroup
	}
	w = append(w, s.form)
	w = appendSight(w, s.form&sawForm, &s.st)
	for _, name := range []string{owner, group} {
		if name != "" {
			w = binary.AppendUvarint(w, uint64(len(name)))
			w = append(w, name...)
		}
	}
	return w
}

func appendSight(w []byte, form byte, st *unix.Stat_t) []byte {
	le := binary.LittleEndian
	if form == sawNothing {
		return w
	}
	w = le.AppendUint64(w, uint64(st.Dev)) //nolint:unconvert // its width differs between architectures
	w = le.AppendUint64(w, st.Ino)
	w = le.AppendUint32(w, st.Mode)
	w = le.AppendUint32(w, st.Uid)
	w = le.AppendUint32(w, st.Gid)
	if form == sawAll {
		w = le.AppendUint64(w, uint64(st.Size))
		w = le.AppendUint64(w, uint64(st.Mtim.Nano()))
		w = le.AppendUint64(w, uint64(st.Ctim.Nano()))
	}
	return w
}

// HoldsAt reports whether what a witness says of a path is still so, and returns
// what the witness says besides.
func (h *Host) HoldsAt(name string, w resource.Witness) (rest resource.Witness, holds bool) {
	if len(w) == 0 {
		return nil, false
	}
	form, w := w[0], w[1:]
	size := map[byte]int{sawNothing: 0, sawAttributes: attributesSize, sawAll: allSize}[form&sawForm]
	if form >= sawGroup<<1 || form&sawForm > sawAll || len(w) < size || checkPath(name) != nil {
		return nil, false
	}
	told, w := w[:size], w[size:]
	if form&sawForm == sawNothing {
		// Only what is found safely is known to be missing.
		_, err := h.Lstat(name)
		return w, form == sawNothing && errors.Is(err, fs.ErrNotExist)
	}
	at := name
	if h.root != "/" {
		at = h.root + name
	}
	var st unix.Stat_t
	var buf [allSize]byte
	if unix.Lstat(at, &st) != nil || string(appendSight(buf[:0], form&sawForm, &st)) != string(told) {
		return nil, false
	}
	for _, who := range []struct {
		bit    byte
		number func(string) (int, error)
		is     uint32
	}{{sawOwner, h.UserID, st.Uid}, {sawGroup, h.GroupID, st.Gid}} {
		if form&who.bit == 0 {
			continue
		}
		n, used := binary.Uvarint(w)
		if used <= 0 || n > uint64(len(w)-used) {
			return nil, false
		}
		id, err := who.number(string(w[used : used+int(n)]))
		if err != nil || id != int(who.is) {
			return nil, false
		}
		w = w[used+int(n):]
	}
	return w, true
}

// Holds reports whether a witness of one path holds.
func (h *Host) Holds(name string, w resource.Witness) bool {
	rest, holds := h.HoldsAt(name, w)
	return holds && len(rest) == 0
}

// WitnessFiles returns what there is to see now at files that are read as a
// whole; nil when that is not enough.
func (h *Host) WitnessFiles(names ...string) resource.Witness {
	var w resource.Witness
	for _, name := range names {
		began := time.Now()
		i, err := h.Lstat(name)
		found := PathFinding{seen: seeAll(i, began)}
		if errors.Is(err, fs.ErrNotExist) {
			found.seen = sight{form: sawNothing, ok: true}
		} else if err != nil || i.Type() == TypeLink {
			return nil
		}
		if w = found.AppendWitness(w, "", ""); w == nil {
			return nil
		}
	}
	return w
}

// HoldsFiles reports whether a witness of WitnessFiles holds for the same files.
func (h *Host) HoldsFiles(w resource.Witness, names ...string) bool {
	for _, name := range names {
		rest, holds := h.HoldsAt(name, w)
		if !holds {
			return false
		}
		w = rest
	}
	return len(w) == 0
}

// linksFollowed is how many links in a row a witness goes along.
const linksFollowed = 8

// WitnessNamed is WitnessFiles with the names in it, for whoever is not told them
// again. Of a link it has the file that the link leads to as well.
func (h *Host) WitnessNamed(names ...string) resource.Witness { return h.witnessNamed(names, seeAll) }

// WitnessOfAttributes is WitnessNamed without what is in the files, or below the
// directories.
func (h *Host) WitnessOfAttributes(names ...string) resource.Witness {
	return h.witnessNamed(names, see)
}

func (h *Host) witnessNamed(names []string, how func(Info, time.Time) sight) resource.Witness {
	var all resource.Witness
	count := 0
	for _, name := range names {
		for range linksFollowed {
			began := time.Now()
			i, err := h.Lstat(name)
			found := PathFinding{seen: how(i, began)}
			if errors.Is(err, fs.ErrNotExist) {
				found.seen = sight{form: sawNothing, ok: true}
			} else if err != nil {
				return nil
			}
			all = append(binary.AppendUvarint(all, uint64(len(name))), name...)
			if all = found.AppendWitness(all, "", ""); all == nil {
				return nil
			}
			count++
			if err != nil || i.Type() != TypeLink {
				break
			}
			if path.IsAbs(i.Target) {
				name = path.Clean(i.Target)
			} else {
				name = path.Join(path.Dir(name), i.Target)
			}
		}
	}
	return append(binary.AppendUvarint(nil, uint64(count)), all...)
}

// HoldsNamed reports whether a witness of WitnessNamed holds, and returns what
// follows it.
func (h *Host) HoldsNamed(w resource.Witness) (rest resource.Witness, holds bool) {
	count, used := binary.Uvarint(w)
	if used <= 0 {
		return nil, false
	}
	w = w[used:]
	for range count {
		n, used := binary.Uvarint(w)
		if used <= 0 || n > uint64(len(w)-used) {
			return nil, false
		}
		name := string(w[used : used+int(n)])
		if w, holds = h.HoldsAt(name, w[used+int(n):]); !holds {
			return nil, false
		}
	}
	return w, true
}

// HoldsOnly reports whether a witness of WitnessNamed holds, and nothing follows it.
func (h *Host) HoldsOnly(w resource.Witness) bool {
	rest, holds := h.HoldsNamed(w)
	return holds && len(rest) == 0
}
