package pkg

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"

	"pault.ag/go/debian/version"

	"trued.dev/trued/internal/host"
)

// Where dpkg and apt keep what they know.
const (
	dpkgStatus  = "/var/lib/dpkg/status"
	dpkgUpdates = "/var/lib/dpkg/updates"
	dpkgLock    = "/var/lib/dpkg/lock-frontend"
	dpkgArch    = "/var/lib/dpkg/arch"
	aptStates   = "/var/lib/apt/extended_states"

	databaseLimit = 512 << 20
)

// readDpkg reads dpkg's status, what an interrupted dpkg has not yet folded into
// it, and apt's marks.
func readDpkg(h *host.Host) (*database, error) {
	data, err := h.ReadFile(dpkgStatus, databaseLimit)
	if err != nil {
		return nil, fmt.Errorf("cannot read package database: %w", err)
	}
	db := newDatabase()
	if err := readStatus(db, data); err != nil {
		return nil, fmt.Errorf("cannot read package database %q: %w", dpkgStatus, err)
	}
	if err := readUpdates(h, db); err != nil {
		return nil, err
	}
	db.Native = nativeArch(h, db)
	marks, err := h.ReadFile(aptStates, databaseLimit)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read package marks: %w", err)
	}
	readMarks(db, marks)
	db.index()
	return db, nil
}

// readUpdates reads the numbered files that dpkg writes while it works; each
// holds the newest stanza of a package.
func readUpdates(h *host.Host, db *database) error {
	entries, err := os.ReadDir(h.Path(dpkgUpdates))
	if err != nil {
		return nil //nolint:nilerr // without the directory nothing was interrupted
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
	for _, e := range entries {
		if strings.Trim(e.Name(), "0123456789") != "" {
			continue
		}
		data, err := h.ReadFile(path.Join(dpkgUpdates, e.Name()), databaseLimit)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a dpkg that is at work has folded it in
		}
		if err != nil {
			return fmt.Errorf("cannot read package database: %w", err)
		}
		if err := readStatus(db, data); err != nil {
			return fmt.Errorf("cannot read package database %q: %w", e.Name(), err)
		}
		db.Interrupted = true
	}
	return nil
}

// nativeArch is what dpkg itself was built for.
func nativeArch(h *host.Host, db *database) string {
	if data, err := h.ReadFile(dpkgArch, 4096); err == nil {
		if first, _, _ := strings.Cut(string(data), "\n"); first != "" {
			return strings.TrimSpace(first)
		}
	}
	for _, r := range db.byName["dpkg"] {
		if r.Status == installed {
			return r.Arch
		}
	}
	return ""
}

// readStatus reads stanzas of dpkg's status. Only the few fields that are needed
// are looked at: the file is read at each run, and is large.
func readStatus(db *database, data []byte) error {
	r := &record{}
	line := 0
	flush := func() error {
		if r.Name == "" && r.Status == "" && r.Version == "" {
			return nil
		}
		if r.Name == "" || r.Status == "" {
			return fmt.Errorf("the stanza that ends at line %d has no package or no status", line)
		}
		db.put(r)
		r = &record{}
		return nil
	}
	for len(data) > 0 {
		var text []byte
		text, data, _ = bytes.Cut(data, []byte{'\n'})
		line++
		if len(text) == 0 {
			if err := flush(); err != nil {
				return err
			}
			continue
		}
		if text[0] == ' ' || text[0] == '\t' {
			continue // more of a field that is not needed
		}
		if err := readField(r, text); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
	return flush()
}

func readField(r *record, line []byte) error {
	switch line[0] {
	case 'P', 'S', 'A', 'V', 'E', 'I':
	default:
		return nil
	}
	key, rest, ok := bytes.Cut(line, []byte{':'})
	if !ok {
		return fmt.Errorf("%q is not a field", line)
	}
	switch string(key) {
	case "Package":
		r.Name = string(bytes.TrimSpace(rest))
	case "Architecture":
		r.Arch = string(bytes.TrimSpace(rest))
	case "Version":
		r.Version = string(bytes.TrimSpace(rest))
	case "Essential", "Protected", "Important":
		r.Vital = r.Vital || string(bytes.TrimSpace(rest)) == "yes"
	case "Provides":
		r.Provides = parseProvides(string(rest))
	case "Status":
		return parseStatus(r, string(rest))
	}
	return nil
}

// parseStatus reads "want flag status", such as "hold ok installed".
func parseStatus(r *record, text string) error {
	words := strings.Fields(text)
	if len(words) != 3 {
		return fmt.Errorf("status %q is not three words", strings.TrimSpace(text))
	}
	r.Held = words[0] == "hold"
	r.Status = status(words[2])
	if words[1] == "reinstreq" && r.Status != notInstalled {
		r.Status = halfInstalled
	}
	return nil
}

func parseProvides(text string) []provided {
	var list []provided
	for item := range strings.SplitSeq(text, ",") {
		name, rest, _ := strings.Cut(strings.TrimSpace(item), " ")
		name, _, _ = strings.Cut(name, ":")
		if name == "" {
			continue
		}
		p := provided{Name: name}
		if v, ok := strings.CutPrefix(strings.Trim(rest, " ()"), "="); ok {
			p.Version = strings.TrimSpace(v)
		}
		list = append(list, p)
	}
	return list
}

// readMarks reads apt's extended states: which packages came as dependencies.
func readMarks(db *database, data []byte) {
	for stanza := range bytes.SplitSeq(data, []byte("\n\n")) {
		var name, arch string
		auto := false
		for line := range bytes.SplitSeq(stanza, []byte{'\n'}) {
			key, value, _ := strings.Cut(string(line), ":")
			switch value = strings.TrimSpace(value); key {
			case "Package":
				name = value
			case "Architecture":
				arch = value
			case "Auto-Installed":
				auto = value == "1"
			}
		}
		for _, r := range db.byName[name] {
			if r.Arch == arch || (r.Arch == "all" && (arch == db.Native || arch == "")) {
				r.Auto = auto
			}
		}
	}
}

// compareDpkg orders versions as dpkg does. One that cannot be parsed comes
// before all others.
func compareDpkg(a, b string) int {
	va, errA := version.Parse(a)
	vb, errB := version.Parse(b)
	switch {
	case errA != nil && errB != nil:
		return strings.Compare(a, b)
	case errA != nil:
		return -1
	case errB != nil:
		return 1
	}
	return version.Compare(va, vb)
}
