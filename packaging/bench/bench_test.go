// Package bench_test is how fast trued is, beside the agents that people use
// today and beside the least that the work takes: all on one booted host, in one
// run, so that the ratios hold although no two machines give the same figures.
//
// `make bench` runs it; it is a benchmark, so that `go test` alone does not.
package bench_test

import (
	"fmt"
	"os"
	"testing"
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
	// loops says whether Ansible does each file by itself, which takes minutes.
	loops bool
}

func readPlan(b *testing.B) plan {
	b.Helper()
	switch how := os.Getenv("BENCH"); how {
	case "quick":
		return plan{
			sizes: []int{1000}, inOrder: map[int]int{1000: 3}, cold: map[int]int{1000: 3}, tree: 1000, many: 3, runs: 300,
		}
	case "", "full":
		return plan{
			sizes:   []int{1000, 5000, 20000},
			inOrder: map[int]int{1000: 9, 5000: 7, 20000: 3},
			cold:    map[int]int{1000: 5, 5000: 3, 20000: 1},
			tree:    5000, many: 7, runs: 10000, loops: true,
		}
	default:
		b.Fatalf("BENCH=%s: write quick, or full", how)
		return plan{}
	}
}

// BenchmarkBesideOthers measures all and writes testdata/bench/results.md; with
// BENCH=quick it prints alone.
func BenchmarkBesideOthers(b *testing.B) {
	p := readPlan(b)
	l := newLab(b)
	t := &table{head: l.machine()}
	b.Cleanup(func() {
		if b.Failed() {
			b.Log("as far as it came:\n" + t.String())
		}
	})
	l.start(t)
	l.idle(t)
	l.manyRuns(t, p)
	for _, n := range p.sizes {
		l.files(t, p, n, true)
	}
	for _, n := range p.sizes {
		l.files(t, p, n, false)
	}
	l.oneTree(t, p)
	l.packages(t, p)
	l.units(t, p)
	grown(t, p)
	text := t.String() + l.load()
	fmt.Println(text)
	if os.Getenv("BENCH") == "quick" {
		return
	}
	if err := os.WriteFile("../../testdata/bench/results.md", []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
}
