package pkg

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"trued.dev/trued/internal/host"
)

const alpmLimit = 4 << 20

// readAlpm reads what pacman notes of each package that is installed.
func readAlpm(h *host.Host) (*database, error) {
	entries, err := h.ReadDir(pacmanLocal)
	if err != nil {
		return nil, fmt.Errorf("cannot read package database: %w", err)
	}
	db := newDatabase()
	db.Native = rpmArch(runtime.GOARCH) // both call it as the kernel does
	for _, e := range entries {
		data, err := h.ReadFile(path.Join(pacmanLocal, e.Name, "desc"), alpmLimit)
		var other *host.TypeError
		if errors.Is(err, fs.ErrNotExist) || errors.As(err, &other) || e.Name == "ALPM_DB_VERSION" {
			continue // not a package, or one that goes or comes just now
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read package database: %w", err)
		}
		r, err := readDesc(string(data))
		if err != nil {
			return nil, fmt.Errorf("cannot read package database %q: %w", e.Name, err)
		}
		db.put(r)
	}
	return db, nil
}

// readDesc reads a desc file: a name between percent signs, the lines of its
// value, and an empty one.
func readDesc(text string) (*record, error) {
	r := &record{Status: installed}
	for block := range strings.SplitSeq(text, "\n\n") {
		lines := strings.Split(strings.Trim(block, "\n"), "\n")
		values := lines[1:]
		if len(values) == 0 {
			continue
		}
		switch lines[0] {
		case "%NAME%":
			r.Name = values[0]
		case "%VERSION%":
			r.Version = alpmVersion(values[0])
		case "%ARCH%":
			r.Arch = anyArch(values[0])
		case "%REASON%":
			r.Auto = values[0] == "1"
		case "%PROVIDES%":
			for _, v := range values {
				name, version, _ := strings.Cut(v, "=")
				r.Provides = append(r.Provides, provided{Name: name, Version: version})
			}
		}
	}
	if r.Name == "" || r.Version == "" {
		return nil, errors.New("it has no name or no version")
	}
	return r, nil
}

// alpmVersion is a version without an epoch of 0.
func alpmVersion(s string) string { return strings.TrimPrefix(s, "0:") }

// An alpmInfo is a package that pacman tells of.
type alpmInfo struct {
	name, version string
	provides      []string
}

// parseAlpmInfo reads what `pacman -Si` prints.
func parseAlpmInfo(text string) []alpmInfo {
	var all []alpmInfo
	key := ""
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(line, " : ")
		switch {
		case strings.HasPrefix(line, " ") && key == "Provides": // a long value goes on
			value = line
		case ok:
			key = strings.TrimSpace(name)
		default:
			key = ""
		}
		value = strings.TrimSpace(value)
		switch {
		case key == "Repository":
			all = append(all, alpmInfo{})
		case len(all) == 0:
		case key == "Name":
			all[len(all)-1].name = value
		case key == "Version":
			all[len(all)-1].version = alpmVersion(value)
		case key == "Provides" && value != "None":
			for _, word := range strings.Fields(value) {
				bare, _, _ := strings.Cut(word, "=")
				all[len(all)-1].provides = append(all[len(all)-1].provides, bare)
			}
		}
	}
	return slices.DeleteFunc(all, func(i alpmInfo) bool { return i.name == "" || i.version == "" })
}

// alpmPlan is what each line of a plan looks like, told from all else.
const alpmPlan = "plan %n %v"

// parseAlpmPlan reads what pacman would install, or remove.
func parseAlpmPlan(text string) []alpmInfo {
	var all []alpmInfo
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "plan" {
			all = append(all, alpmInfo{name: f[1], version: alpmVersion(f[2])})
		}
	}
	return all
}

// alpmFile takes the name of a package's file apart: name-version-release-arch.
func alpmFile(base string) (name, version string, ok bool) {
	base, _, ok = strings.Cut(base, ".pkg.tar")
	parts := strings.Split(base, "-")
	n := len(parts)
	if !ok || n < 4 {
		return "", "", false
	}
	return strings.Join(parts[:n-3], "-"), alpmVersion(parts[n-3] + "-" + parts[n-2]), true
}

var (
	alpmNotFetched = pattern(`(?m)^error: failed retrieving file '([^']+)'`)
	alpmCorrupt    = pattern(`(?m)^(?::: File |error: )(?:\S*/)?([^/\s]+\.pkg\.tar\S*?)(?: is corrupted|: )`)
	alpmRivals     = pattern(`(?m)^:: (\S+?)(?:-\d\S*)? and (\S+?)(?:-\d\S*)? are in conflict`)
	alpmTaken      = pattern(`(?m)^(\S+): \S+ exists in filesystem`)
	alpmShared     = pattern(`(?m)exists in both '([^']+)' and '([^']+)'`)
	alpmNeeded     = pattern(`(?m)^:: .* required by (\S+)`)
	alpmSaid       = pattern(`(?m)^(?:error: |:: .*(?:conflict$|required by |exists )|\S+: \S+ exists in filesystem|.* exists in both ).*`)
)

// alpmReason picks the lines of pacman's output that say why it failed.
func alpmReason(text string) string {
	var reasons []string
	for _, line := range alpmSaid().FindAllString(text, -1) {
		reasons = append(reasons, strings.TrimPrefix(strings.TrimPrefix(line, "error: "), ":: "))
	}
	if len(reasons) == 0 {
		return lastLines(text, 10)
	}
	return strings.Join(slices.Compact(reasons), "; ")
}

// parseAlpmFailure finds whom pacman blames. Of two that do not go together it is
// the one that was asked for.
func parseAlpmFailure(text string, t transaction) *failure {
	f := &failure{}
	for _, form := range []*regexp.Regexp{alpmNotFetched(), alpmCorrupt()} {
		for _, m := range form.FindAllStringSubmatch(text, -1) {
			if name, _, ok := alpmFile(m[1]); ok {
				f.Fetch = true
				f.Culprits = append(f.Culprits, name)
			}
		}
	}
	for _, m := range alpmTaken().FindAllStringSubmatch(text, -1) {
		f.Culprits = append(f.Culprits, m[1])
	}
	asked := func(name string) bool {
		return slices.ContainsFunc(t.Install, func(i target) bool { return i.Name == name })
	}
	for _, form := range []*regexp.Regexp{alpmRivals(), alpmShared()} {
		for _, m := range form.FindAllStringSubmatch(text, -1) {
			switch {
			case asked(m[1]):
				f.Culprits = append(f.Culprits, m[1])
			case asked(m[2]):
				f.Culprits = append(f.Culprits, m[2])
			default:
				f.Culprits = append(f.Culprits, m[1], m[2])
			}
		}
	}
	for _, m := range alpmNeeded().FindAllStringSubmatch(text, -1) {
		f.Culprits = append(f.Culprits, m[1])
	}
	slices.Sort(f.Culprits)
	f.Culprits = slices.Compact(f.Culprits)
	return f
}
