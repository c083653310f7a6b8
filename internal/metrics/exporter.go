package metrics

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// An Exporter writes what is known in Prometheus' text format. Its methods may be
// called from several goroutines.
type Exporter struct {
	// Rest is called after each answer to a scrape; nil for nothing.
	Rest     func()
	registry *prometheus.Registry
}

// NewExporter returns an exporter that calls read for each answer.
func NewExporter(read func() (Reading, error)) (*Exporter, error) {
	// The library's own registry would tell of this process, and is everybody's.
	e := &Exporter{registry: prometheus.NewRegistry()}
	return e, e.registry.Register(&collector{newFamilies(), read})
}

type collector struct {
	*families
	read func() (Reading, error)
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.all() {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	r, err := c.read()
	if err != nil {
		out <- prometheus.NewInvalidMetric(c.build, err)
		return
	}
	page{c.families, out}.reading(r)
}

// Write writes the whole of it, or nothing.
func (e *Exporter) Write(w io.Writer) error {
	found, err := e.registry.Gather()
	if err != nil {
		return fmt.Errorf("cannot read metrics: %w", err)
	}
	var b bytes.Buffer
	encoder := expfmt.NewEncoder(&b, textFormat())
	for _, f := range found {
		if err := encoder.Encode(f); err != nil {
			return fmt.Errorf("cannot encode metrics: %w", err)
		}
	}
	_, err = w.Write(b.Bytes())
	return err
}

// textFormat is the one that everybody reads.
func textFormat() expfmt.Format { return expfmt.NewFormat(expfmt.TypeTextPlain) }

// textfileMode lets the node exporter, which is nobody, read the file.
const textfileMode = 0o644

// WriteFile puts it into a file of the host, by rename, unless the file has it. A
// reader of the directory
// finds no file beside it that it would take for one of its own.
func (e *Exporter) WriteFile(ctx context.Context, h *host.Host, path string) error {
	var b bytes.Buffer
	if err := e.Write(&b); err != nil {
		return err
	}
	spec := host.FileSpec{Content: resource.Bytes(b.Bytes()), Mode: resource.NewMode(textfileMode), Disguised: true}
	if found, err := h.CompareFile(ctx, path, spec); err == nil && len(found.Diff) == 0 {
		return nil // a disk may sleep while nothing happens
	}
	if err := h.WriteFile(ctx, path, spec); err != nil {
		return fmt.Errorf("cannot write metrics: %w", err)
	}
	return nil
}
