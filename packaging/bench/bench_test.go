// Package bench_test is how fast trued is, beside the agents that people use
// today and beside the least that the work takes: all on one booted host, in one
// run, so that the ratios hold although no two machines give the same figures.
//
// `make bench` runs it; it is a benchmark, so that `go test` alone does not.
package bench_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// A plan says how much is measured.
type plan struct {
	sizes []int
	// inOrder and cold are how often each is repeated, by the number of files.
	inOrder, cold map[int]int
	// tree is the size of the tree that is one resource.
	tree int
	// units and packages in state.
	many int
	// runs of the daemon that must leave it as it was.
	runs int
	// rest is how long a daemon is left alone, to make an hour of.
	rest time.Duration
	// loops says whether Ansible does each file by itself, which takes minutes.
	loops bool
}

func readPlan(b *testing.B) plan {
	b.Helper()
	switch how := os.Getenv("BENCH"); how {
	case "quick":
		return plan{
			sizes: []int{1000}, inOrder: map[int]int{1000: 3}, cold: map[int]int{1000: 3}, tree: 1000, many: 3, runs: 300, rest: time.Minute,
		}
	case "", "full":
		return plan{
			sizes:   []int{1000, 5000, 20000},
			inOrder: map[int]int{1000: 9, 5000: 7, 20000: 3},
			cold:    map[int]int{1000: 5, 5000: 3, 20000: 1},
			tree:    5000, many: 7, runs: 10000, rest: 5 * time.Minute, loops: true,
		}
	default:
		b.Fatalf("BENCH=%s: write quick, or full", how)
		return plan{}
	}
}

// A part is some rows of the table.
type part struct {
	name    string
	measure func(*table)
}

// parts are in the order of what matters most, so that a run that is cut off
// has that.
func (l *lab) parts(p plan) []part {
	all := []part{{"start", l.start}, {"idle", l.idle}}
	files := func(n int, mixed bool) {
		all = append(all, part{workload{n: n, mixed: mixed}.name(), func(t *table) { l.files(t, p, n, mixed) }})
	}
	some := min(2, len(p.sizes))
	for _, n := range p.sizes[:some] {
		files(n, true)
	}
	all = append(all, part{"one tree", func(t *table) { l.oneTree(t, p) }}, part{"packages", func(t *table) { l.packages(t, p) }})
	for _, n := range p.sizes[:some] {
		files(n, false)
	}
	all = append(all, part{"units", func(t *table) { l.units(t, p) }})
	for _, n := range p.sizes[some:] {
		files(n, true)
		files(n, false)
	}
	all = append(all, part{"drift", func(t *table) { l.drift(t, p) }})
	all = append(all, part{"growth", func(t *table) { grown(t, p) }}, part{"many runs", func(t *table) { l.manyRuns(t, p) }})
	if p.loops {
		all = append(all, part{"Ansible, each file by itself", func(t *table) { l.ansibleLoop(t, p) }})
	}
	return all
}

// missing says which parts are still to come.
func missing(parts []part) string {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	if names == nil {
		return ""
	}
	return "\nCut off. Not measured: " + strings.Join(names, "; ") + ".\n"
}

// BenchmarkBesideOthers measures all and writes testdata/bench/results.md after
// each part; with BENCH=quick, or the parts whose names contain BENCH_ONLY, it
// prints alone.
func BenchmarkBesideOthers(b *testing.B) {
	p := readPlan(b)
	l := newLab(b)
	t := &table{head: l.machine()}
	parts, keep := l.parts(p), os.Getenv("BENCH") != "quick"
	if only := os.Getenv("BENCH_ONLY"); only != "" {
		parts, keep = slices.DeleteFunc(parts, func(p part) bool { return !strings.Contains(p.name, only) }), false
	}
	for i, part := range parts {
		part.measure(t)
		t.foot = l.load() + missing(parts[i+1:])
		if keep {
			write(b, "../../testdata/bench/results.md", t.String())
		}
	}
	fmt.Println(t)
}
