package mount

import (
	"context"
	"encoding/json"
	"slices"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/resource"
)

// A sight is what a Check of a mount rests on beside fstab.
type sight struct {
	Swap bool  `json:"swap,omitempty"`
	Now  shown `json:"now"`
	// Device is the path of what is mounted, and Which the device behind it; of a
	// directory or file it is that itself.
	Device string `json:"device,omitempty"`
	Which  which  `json:"which"`
	// Target is what is seen at the mount point, for a bind mount.
	Target which `json:"target"`
}

// A shown is what the kernel's list has for a mount point.
type shown struct {
	Mounted bool   `json:"mounted,omitempty"`
	Source  string `json:"source,omitempty"`
	FSType  string `json:"fstype,omitempty"`
	Options string `json:"options,omitempty"`
	Root    string `json:"root,omitempty"`
	Major   int    `json:"major,omitempty"`
	Minor   int    `json:"minor,omitempty"`
	// Priority is that of swap.
	Priority string `json:"priority,omitempty"`
}

func shownOf(now live) shown {
	s := shown{Mounted: now.Mounted, Source: now.Source, FSType: now.FSType, Priority: now.priority}
	if i := now.info; i != nil {
		s.Options, s.Root, s.Major, s.Minor = i.Options, i.Root, i.Major, i.Minor
	}
	return s
}

// A which tells one file, directory or device from another.
type which struct {
	Dev, Ino, Rdev uint64
	Mode           uint32
}

func whichAt(path string) (w which, ok bool) {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return which{}, false
	}
	return which{Dev: uint64(st.Dev), Ino: st.Ino, Rdev: uint64(st.Rdev), Mode: st.Mode}, true //nolint:unconvert // their width differs between architectures
}

// witness is what there is to see of a mount that is as it should be. There is
// none for a file that is mounted through a loop device, which others can change.
func (r *Resource) witness(listed resource.Witness, now live) resource.Witness {
	s := sight{Swap: r.swaps(), Now: shownOf(now), Device: devicePath(r.Device)}
	if s.Swap || !now.Mounted || !r.mounts() || now.FSType == autofs {
		s.Device = "" // then it was not looked at
	}
	if s.Device != "" {
		var ok bool
		if s.Which, ok = whichAt(r.machine.host.Path(s.Device)); !ok {
			return nil
		}
		switch s.Which.Mode & unix.S_IFMT {
		case unix.S_IFBLK:
		case unix.S_IFREG:
			if !r.bind() {
				return nil
			}
			fallthrough
		default:
			if s.Target, ok = whichAt(r.Name()); !ok {
				return nil
			}
		}
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil
	}
	return slices.Concat(listed, text)
}

// Holds implements resource.Examiner.
func (m module) Holds(_ context.Context, name string, w resource.Witness) bool {
	rest, holds := m.host.HoldsNamed(w)
	if !holds || m.host.Offline() {
		return holds && len(rest) == 0
	}
	var s sight
	if json.Unmarshal(rest, &s) != nil {
		return false
	}
	look := m.at
	if s.Swap {
		look = m.swapped
	}
	now, err := look(name)
	if err != nil || shownOf(now) != s.Now {
		return false
	}
	for _, one := range []struct {
		path string
		was  which
	}{{m.host.Path(s.Device), s.Which}, {name, s.Target}} {
		if s.Device == "" || one.was == (which{}) {
			continue
		}
		if is, ok := whichAt(one.path); !ok || is != one.was {
			return false
		}
	}
	return true
}
