package bench_test

import (
	"fmt"
	"strings"
	"testing"
)

type unit string

const (
	seconds   unit = "s"
	megabytes unit = "MB"
	times     unit = "×"
	count     unit = "of them"
)

// A cell is a figure, or the reason why there is none.
type cell struct {
	value float64
	unit  unit
	note  string
}

func (c cell) String() string {
	switch {
	case c.unit == "":
		return c.note
	case c.unit == seconds && c.value < 0.0995:
		return fmt.Sprintf("%.1f ms", 1000*c.value)
	case c.unit == seconds && c.value < 0.9995:
		return fmt.Sprintf("%.0f ms", 1000*c.value)
	case c.unit == seconds:
		return fmt.Sprintf("%.2f s", c.value)
	case c.unit == count:
		return fmt.Sprintf("%.0f", c.value)
	case c.unit == times:
		return fmt.Sprintf("%.2f×", c.value)
	}
	return fmt.Sprintf("%.1f %s", c.value, c.unit)
}

// A target is what trued's figure should be at most.
type target struct {
	words string
	most  cell
}

// of returns a share of a figure as a target.
func of(share float64, c cell, words string) target {
	return target{words, cell{value: share * c.value, unit: c.unit}}
}

// A row is one workload.
type row struct {
	work                               string
	trued                              cell
	tree, each, puppet, ansible, floor cell
	targets                            []target
}

// A table has the figures of one run.
type table struct {
	head, foot string
	rows       []row
}

func (t *table) add(r row) { t.rows = append(t.rows, r) }

// row returns the row of a workload, or an empty one that is in no table.
func (t *table) row(work string) *row {
	for i := range t.rows {
		if t.rows[i].work == work {
			return &t.rows[i]
		}
	}
	return &row{}
}

// beside is a rival's figure with how many times trued's it is.
func beside(c, trued cell) string {
	if c.unit == "" || trued.unit != c.unit || trued.value == 0 {
		return c.String()
	}
	ratio := c.value / trued.value
	if ratio >= 9.95 {
		return fmt.Sprintf("%s (%.0f×)", c, ratio)
	}
	return fmt.Sprintf("%s (%.1f×)", c, ratio)
}

func (t *table) String() string {
	var b strings.Builder
	b.WriteString("# How fast it is\n\nWritten by `make bench`; README.md beside this file says what the rows mean.\n\n" + t.head + "\n\n")
	b.WriteString("| workload | trued | CFEngine, one tree | CFEngine, one promise each | Puppet | Ansible | floor | target | met? |\n" +
		"|---|---|---|---|---|---|---|---|---|\n")
	met, missed := 0, 0
	for _, r := range t.rows {
		var aims, verdicts []string
		for _, aim := range r.targets {
			aims = append(aims, fmt.Sprintf("%s: %s", aim.words, aim.most))
			if r.trued.value <= aim.most.value {
				verdicts = append(verdicts, "yes")
				met++
			} else {
				verdicts = append(verdicts, fmt.Sprintf("no, %.1f times it", r.trued.value/aim.most.value))
				missed++
			}
		}
		fmt.Fprintf(&b, "| %s | %s |", r.work, r.trued)
		for _, c := range []cell{r.tree, r.each, r.puppet, r.ansible, r.floor} {
			fmt.Fprintf(&b, " %s |", beside(c, r.trued))
		}
		fmt.Fprintf(&b, " %s | %s |\n", strings.Join(aims, "; "), strings.Join(verdicts, "; "))
	}
	fmt.Fprintf(&b, "\n%d targets met, %d missed.\n%s", met, missed, t.foot)
	return b.String()
}

func TestATableSaysRatiosAndWhatIsMissed(t *testing.T) {
	tree := cell{value: 0.2, unit: seconds}
	tab := &table{head: "a machine"}
	tab.add(row{
		work: "1,000 files", trued: cell{value: 0.05, unit: seconds}, tree: tree, puppet: cell{value: 6, unit: seconds},
		ansible: cell{note: "not run"}, targets: []target{of(0.1, tree, "1/10 of the tree"), of(1, tree, "the tree")},
	})
	tab.add(row{work: "idle", trued: cell{value: 14, unit: megabytes}, targets: []target{{"as asked", cell{value: 16, unit: megabytes}}}})
	got := tab.String()
	for _, want := range []string{
		"| 1,000 files | 50.0 ms | 200 ms (4.0×) |  | 6.00 s (120×) | not run |  | 1/10 of the tree: 20.0 ms; the tree: 200 ms | no, 2.5 times it; yes |\n",
		"| idle | 14.0 MB |  |  |  |  |  | as asked: 16.0 MB | yes |\n",
		"\n2 targets met, 1 missed.\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the table has no %q:\n%s", want, got)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 9}, 3}} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
	}
}
