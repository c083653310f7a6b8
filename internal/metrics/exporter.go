package metrics

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/prometheus/common/expfmt"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// An Exporter writes what is known in Prometheus' text format. Its methods may be
// called from several goroutines.
type Exporter struct {
	// Rest is called after each answer to a scrape; nil for nothing.
	Rest func()
	read func() (Reading, error)
}

// NewExporter returns an exporter that calls read for each answer.
func NewExporter(read func() (Reading, error)) *Exporter { return &Exporter{read: read} }

// Write writes the whole of it, or nothing.
func (e *Exporter) Write(w io.Writer) error {
	r, err := e.read()
	if err != nil {
		return fmt.Errorf("cannot read metrics: %w", err)
	}
	found := newFamilies()
	page{found}.reading(r)
	all := found.all()
	slices.SortFunc(all, func(a, b *family) int { return cmp.Compare(a.name, b.name) })
	var b bytes.Buffer
	encoder := expfmt.NewEncoder(&b, textFormat())
	for _, f := range all {
		if len(f.values) == 0 {
			continue
		}
		m, err := f.message()
		if err != nil {
			return err
		}
		if err := encoder.Encode(m); err != nil {
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
