// Package sinks is the list of all kinds of sinks, and their part of the agent's
// configuration.
//
// It makes sinks and routes of what the operator wrote. What a sink does is its
// own business.
package sinks

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/report/cloudevents"
	"trued.dev/trued/internal/report/otlp"
	"trued.dev/trued/internal/report/spool"
	"trued.dev/trued/internal/report/syslog"
)

// Config is one item of `report`: a plain word, or a map from the kind to where
// events go, and which ones do.
type Config struct {
	// Word is a kind given alone: journal or stdout.
	Word    string              `yaml:"-"`
	Journal bool                `yaml:"journal" doc:"true: the systemd journal"`
	Stdout  bool                `yaml:"stdout" doc:"true: standard output"`
	File    string              `yaml:"file" doc:"path of a file that takes one JSON object a line"`
	Syslog  *syslog.Config      `yaml:"syslog" doc:"a receiver of syslog"`
	HTTP    *cloudevents.Config `yaml:"http" doc:"a receiver of CloudEvents"`
	OTLP    *otlp.Config        `yaml:"otlp" doc:"a receiver of OpenTelemetry logs"`

	Name          string `yaml:"name" doc:"tells two sinks with the same receiver apart"`
	report.Filter `yaml:",inline"`
	Spool         SpoolConfig `yaml:"spool" doc:"where events wait for a receiver"`
}

// SpoolConfig bounds what waits for one receiver.
type SpoolConfig struct {
	Bytes Bytes         `yaml:"bytes" doc:"the most that waits; 64MiB"`
	Age   time.Duration `yaml:"age" doc:"the longest that something waits; 168h"`
}

// UnmarshalText takes a plain word.
func (c *Config) UnmarshalText(text []byte) error {
	switch word := string(text); word {
	case report.KindJournal, report.KindStdout:
		c.Word = word
		return nil
	case report.KindFile:
		return fmt.Errorf("the sink %q needs a path: write file: /var/log/trued/events.jsonl", word)
	case syslog.Kind:
		return fmt.Errorf("the sink %q needs an address: write syslog: tls://logs.example.com:6514", word)
	case cloudevents.Kind, otlp.Kind:
		return fmt.Errorf("the sink %q needs a URL: write %s: https://logs.example.com", word, word)
	default:
		return fmt.Errorf("unknown sink %q: write %s", word, choices)
	}
}

const choices = "journal, stdout, or a map such as file: PATH, syslog: ADDRESS, http: URL, otlp: URL"

// Validate reports what does not go together in the item.
func (c Config) Validate() error {
	kinds := c.kinds()
	switch {
	case len(kinds) == 0:
		return fmt.Errorf("a sink is %s", choices)
	case len(kinds) > 1:
		return fmt.Errorf("%s are two sinks: write each as an item of its own", strings.Join(kinds, " and "))
	case c.File != "" && c.File[0] != '/':
		return fmt.Errorf("file %q is not an absolute path", c.File)
	case c.Spool != (SpoolConfig{}) && !c.remote():
		return fmt.Errorf("%s has no spool: its events wait in the ledger", kinds[0])
	case c.Spool.Bytes != 0 && c.Spool.Bytes < spool.LeastBytes:
		return fmt.Errorf("spool: %d bytes are too few: 1MiB is the least", c.Spool.Bytes)
	case c.Spool.Age != 0 && c.Spool.Age < time.Minute:
		return fmt.Errorf("spool: %s is too short: 1m is the least", c.Spool.Age)
	case strings.ContainsAny(c.Name, "/:"):
		return errors.New("a name is a word without a slash and a colon")
	case c.Syslog != nil:
		return c.Syslog.Validate()
	case c.HTTP != nil:
		return c.HTTP.Validate()
	case c.OTLP != nil:
		return c.OTLP.Validate()
	}
	return nil
}

// kinds are the kinds that the item names.
func (c Config) kinds() []string {
	var found []string
	for _, k := range []struct {
		name  string
		there bool
	}{
		{report.KindJournal, c.Journal || c.Word == report.KindJournal},
		{report.KindStdout, c.Stdout || c.Word == report.KindStdout},
		{report.KindFile, c.File != ""},
		{syslog.Kind, c.Syslog != nil},
		{cloudevents.Kind, c.HTTP != nil},
		{otlp.Kind, c.OTLP != nil},
	} {
		if k.there {
			found = append(found, k.name)
		}
	}
	return found
}

// Labels returns a word for each sink that says no more of its receiver than the
// operator does: its name or else its kind, with a number where that is there
// already.
func Labels(all []Config) []string {
	labels := make([]string, len(all))
	for i, c := range all {
		word := c.Name
		if kinds := c.kinds(); word == "" && len(kinds) > 0 {
			word = kinds[0]
		}
		label := word
		for n := 2; slices.Contains(labels[:i], label); n++ {
			label = fmt.Sprintf("%s-%d", word, n)
		}
		labels[i] = label
	}
	return labels
}

// remote reports whether the sink is a network away, so that events wait in a
// spool. A local socket counts as one: its daemon comes and goes as it likes.
func (c Config) remote() bool { return c.Syslog != nil || c.HTTP != nil || c.OTLP != nil }

// Open returns the route. Standard output is handed in, with whether it takes
// JSON or lines for a person; spools are below the directory.
func (c Config) Open(stdout io.Writer, asJSON bool, spools string) (report.Route, error) {
	if err := c.Validate(); err != nil {
		return report.Route{}, err
	}
	r := report.Route{Filter: c.Filter}
	switch {
	case c.File != "":
		r.Sink = report.NewFile(c.File)
	case c.Syslog != nil:
		r.Sink = syslog.New(*c.Syslog)
	case c.HTTP != nil:
		r.Sink = cloudevents.New(*c.HTTP)
	case c.OTLP != nil:
		r.Sink = otlp.New(*c.OTLP)
	case c.Journal || c.Word == report.KindJournal:
		r.Sink = report.NewJournal()
	default:
		r.Sink = report.NewStdout(stdout, asJSON)
	}
	if c.Name != "" {
		r.Sink = named{r.Sink, r.Sink.Name() + ":" + c.Name}
	}
	if c.remote() {
		r.Spool = filepath.Join(spools, folder(r.Sink.Name()))
		r.Limits = spool.Limits{Bytes: int64(c.Spool.Bytes), Age: c.Spool.Age}
	}
	return r, nil
}

// named is a sink that the operator gave a name of its own.
type named struct {
	report.Sink
	name string
}

func (n named) Name() string { return n.name }

// folder is the name of a sink's spool: one that a person knows again, and no
// other sink has.
func folder(name string) string {
	const known = 60
	digest := sha256.Sum256([]byte(name))
	word := strings.Map(func(r rune) rune {
		if r == '.' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, name)
	return word[:min(len(word), known)] + "-" + hex.EncodeToString(digest[:4])
}
