package metrics

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// A kind is what a family's values are.
type kind = dto.MetricType

const (
	gauge   = dto.MetricType_GAUGE
	counter = dto.MetricType_COUNTER
)

// A family is a name with its meaning, and the values of one reading.
type family struct {
	name, help string
	labels     []string
	kind       kind
	values     []value
}

// A value stands under the labels of its family, in their order.
type value struct {
	labels []string
	is     float64
}

// add takes one value. Labels may come from a file that the operator wrote: what is
// no text does not spoil the rest.
func (f *family) add(k kind, is float64, labels []string) {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "\uFFFD")
	}
	f.kind = k
	f.values = append(f.values, value{labels, is})
}

// message is the family as the library writes it: a label by its name, a value by
// its labels. It is an error that two values have the same ones, since a
// Prometheus takes nothing at all of such a page.
func (f *family) message() (*dto.MetricFamily, error) {
	m := &dto.MetricFamily{Name: &f.name, Help: &f.help, Type: f.kind.Enum()}
	order := make([]int, len(f.labels))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(f.labels[a], f.labels[b]) })
	compare := func(a, b value) int {
		for _, i := range order {
			if c := cmp.Compare(a.labels[i], b.labels[i]); c != 0 {
				return c
			}
		}
		return 0
	}
	slices.SortFunc(f.values, compare)
	for i, v := range f.values {
		if i > 0 && compare(f.values[i-1], v) == 0 {
			return nil, fmt.Errorf("there are two values of %s%q", f.name, v.labels)
		}
		one := &dto.Metric{}
		for _, l := range order {
			one.Label = append(one.Label, &dto.LabelPair{Name: &f.labels[l], Value: &v.labels[l]})
		}
		if f.kind == counter {
			one.Counter = &dto.Counter{Value: &v.is}
		} else {
			one.Gauge = &dto.Gauge{Value: &v.is}
		}
		m.Metric = append(m.Metric, one)
	}
	return m, nil
}
