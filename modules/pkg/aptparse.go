package pkg

import (
	"path"
	"slices"
	"strings"
)

// parsePolicy reads what `apt-cache policy NAME…` prints.
func parsePolicy(text string) map[string]offer {
	offers := map[string]offer{}
	name, version, priority := "", "", ""
	table := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		trimmed := strings.TrimSpace(line)
		switch {
		case !strings.HasPrefix(line, " "):
			if n, ok := strings.CutSuffix(line, ":"); ok && packageName().MatchString(n) {
				name, table, priority = n, false, ""
				offers[name] = offer{}
			} else {
				name = ""
			}
		case name == "":
		case strings.HasPrefix(trimmed, "Candidate: "):
			if v := strings.TrimPrefix(trimmed, "Candidate: "); v != "(none)" {
				o := offers[name]
				o.Candidate = v
				offers[name] = o
			}
		case trimmed == "Version table:":
			table = true
		case table && (strings.HasPrefix(line, "     ") || strings.HasPrefix(line, " *** ")) && !strings.HasPrefix(line, "        "):
			version, priority, _ = strings.Cut(strings.TrimPrefix(trimmed, "*** "), " ")
		case strings.HasPrefix(priority, "-"): // a pin forbids it
		case table && !strings.HasSuffix(trimmed, " /var/lib/dpkg/status"):
			// Only a version that some repository has can be had.
			o := offers[name]
			if !slices.Contains(o.Versions, version) {
				o.Versions = append(o.Versions, version)
				offers[name] = o
			}
		}
	}
	for name, o := range offers {
		if !slices.Contains(o.Versions, o.Candidate) {
			o.Candidate = ""
			offers[name] = o
		}
	}
	return offers
}

// parseProviders reads the reverse provides of `apt-cache showpkg NAME`.
func parseProviders(text string) []string {
	_, text, _ = strings.Cut(text, "\nReverse Provides:")
	var names []string
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) >= 2 {
			names = append(names, fields[0])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

var (
	instLine = pattern(`^Inst (\S+) (?:\[([^\]]*)\] )?\((\S+) `)
	remvLine = pattern(`^(?:Remv|Purg) (\S+)`)
)

// parseSimulation reads what `apt-get -s install` would do.
func parseSimulation(text string) effect {
	var e effect
	for line := range strings.Lines(text) {
		if m := instLine().FindStringSubmatch(line); m != nil {
			e.Installs = append(e.Installs, move{Name: m[1], From: m[2], To: m[3]})
		} else if m := remvLine().FindStringSubmatch(line); m != nil {
			e.Removes = append(e.Removes, m[1])
		}
	}
	slices.Sort(e.Removes)
	e.Removes = slices.Compact(e.Removes)
	return e
}

// aptReason picks the lines of apt's output that say why it failed.
func aptReason(text string) string {
	var reasons []string
	unmet := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "The following packages have unmet dependencies"),
			strings.HasPrefix(line, "Errors were encountered while processing"):
			unmet = true
			reasons = append(reasons, trimmed)
		case unmet && strings.HasPrefix(line, " "):
			reasons = append(reasons, trimmed)
		case strings.HasPrefix(line, "E: "), strings.HasPrefix(line, "dpkg: error"):
			unmet = false
			reasons = append(reasons, strings.TrimPrefix(trimmed, "E: "))
		case strings.HasPrefix(line, "dpkg:"):
			unmet = false
			reasons = append(reasons, trimmed)
		default:
			unmet = false
		}
	}
	if len(reasons) == 0 {
		return lastLines(text, 10)
	}
	return strings.Join(slices.Compact(reasons), "; ")
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

var (
	dpkgError  = pattern(`(?m)^dpkg: error processing (?:package|archive) (\S+)`)
	fetchError = pattern(`(?m)^E: Failed to fetch (\S+)`)
)

// parseFailure finds whom dpkg and apt blame.
func parseFailure(text string) *failure {
	f := &failure{}
	blame := func(name string) {
		if file := path.Base(name); strings.HasSuffix(file, ".deb") {
			name, _, _ = strings.Cut(file, "_")
			// apt's temporary names begin with a number.
			if digits, rest, ok := strings.Cut(name, "-"); ok && strings.Trim(digits, "0123456789") == "" {
				name = rest
			}
		}
		f.Culprits = append(f.Culprits, name)
	}
	for _, m := range dpkgError().FindAllStringSubmatch(text, -1) {
		blame(m[1])
	}
	for _, m := range fetchError().FindAllStringSubmatch(text, -1) {
		f.Fetch = true
		blame(m[1])
	}
	slices.Sort(f.Culprits)
	f.Culprits = slices.Compact(f.Culprits)
	return f
}
