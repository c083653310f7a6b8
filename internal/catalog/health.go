package catalog

import (
	"errors"
	"net"
	"net/url"
	"path"
	"path/filepath"
	"strings"
	"time"

	"trued.dev/trued/internal/document"
	"trued.dev/trued/internal/resource"
)

// A Probe is one look at whether the host is healthy. It has one of HTTP, TCP,
// Unit, File and Command.
type Probe struct {
	Name string `json:"name"`
	// Origin is where it is written.
	Origin resource.Origin `yaml:"-" json:"-"`
	// As is the user that the host's rules have its command run as; empty is the
	// agent's own.
	As   string `yaml:"-" json:"-"`
	HTTP string `yaml:"http" json:"http,omitempty" doc:"a URL that must answer"`
	TCP  string `yaml:"tcp" json:"tcp,omitempty" doc:"an address, such as localhost:5432, that must take a connection"`
	Unit string `yaml:"unit" json:"unit,omitempty" doc:"a systemd unit that must be active, and not be started again and again"`
	File string `yaml:"file" json:"file,omitempty" doc:"a path that must exist"`
	// Command is split like shell words.
	Command string `yaml:"command" json:"command,omitempty" doc:"a command, run without a shell, that must return 0"`

	Status     int    `yaml:"status" json:"status,omitempty" doc:"http: the status that is wanted; any of 200 to 299"`
	Contains   string `yaml:"contains" json:"contains,omitempty" doc:"http, file, command: text that must be in what is read"`
	CAFile     string `yaml:"ca_file" json:"ca_file,omitempty" doc:"http: certificates that the server is checked against; the host's"`
	ServerName string `yaml:"server_name" json:"server_name,omitempty" doc:"http: the name in the server's certificate, and of the site; that of the URL"`
	Insecure   bool   `yaml:"insecure" json:"insecure,omitempty" doc:"http: take any certificate"`

	Within time.Duration `yaml:"within" json:"within" doc:"how long it may take after a run until it is good; 30s"`
	Every  time.Duration `yaml:"every" json:"every" doc:"pause between two looks; 1s"`
	Times  int           `yaml:"times" json:"times" doc:"how many looks in a row must be good; 3"`
}

// Target is what the probe looks at.
func (p Probe) Target() string {
	for _, s := range []string{p.HTTP, p.TCP, p.Unit, p.File, p.Command} {
		if s != "" {
			return s
		}
	}
	return ""
}

const (
	probeWithin = 30 * time.Second
	probeEvery  = time.Second
	probeTimes  = 3
	// Bounds of what a probe may ask for.
	maxWithin = time.Hour
	minEvery  = 100 * time.Millisecond
	maxTimes  = 1000
	maxProbes = 100
)

// health returns the probes of all groups. A probe replaces one of the same name
// of a group that is included, at its place; null takes that away.
func (l *loader) health() []Probe {
	type place struct {
		group *group
		pair  document.Pair
	}
	var order []place
	for _, g := range l.groups {
		n := g.doc.Get("health")
		if n == nil || n.Kind != document.Map {
			continue // said already, where it is anything else
		}
		for _, p := range n.Pairs {
			at := -1
			for i, o := range order {
				if o.pair.Key.Value == p.Key.Value {
					at = i
				}
			}
			if at < 0 {
				order = append(order, place{g, p})
			} else {
				order[at] = place{g, p}
			}
		}
	}
	if len(order) > maxProbes {
		o := order[maxProbes]
		l.faults.at(l.groupOrigin(o.group, o.pair.Key), "health: more than %d probes", maxProbes)
		return nil
	}
	var probes []Probe
	for _, o := range order {
		if v := o.pair.Value; v.Kind == document.Scalar && v.Type == document.Null {
			continue
		}
		if p, ok := l.probe(o.group, o.pair); ok {
			probes = append(probes, p)
		}
	}
	return probes
}

// probe decodes one probe.
func (l *loader) probe(g *group, pair document.Pair) (Probe, bool) {
	p := Probe{Name: pair.Key.Value, Within: probeWithin, Every: probeEvery, Times: probeTimes}
	f, err := l.tree.yaml(path.Join(g.path, groupFile))
	if err != nil {
		return p, false // never: it was read before
	}
	was := l.names.secrets.begin()
	node, _, err := l.renderNode(&item{group: g, file: f}, pair.Value, false)
	used := l.names.secrets.end(was)
	var open *openError
	switch {
	case used.touched:
		l.faults.at(l.groupOrigin(g, pair.Value), "health %q: it cannot hold a secret: every process can read the arguments of another, and what failed is told", p.Name)
		return p, false
	case errors.As(err, &open):
		l.warn("%s: health %q is left out: %v", l.groupOrigin(g, pair.Key), p.Name, open)
		return p, false
	case err != nil:
		return p, false
	}
	at := l.groupOrigin(g, pair.Value)
	p.Origin = at
	problems := l.dec.Decode(node, &p)
	l.faults.problems(at, problems)
	if len(problems) > 0 {
		return p, false
	}
	p.Name = pair.Key.Value
	return p, l.judgeProbe(p, at)
}

// judgeProbe reports what is wrong with a probe, and whether nothing is.
func (l *loader) judgeProbe(p Probe, at resource.Origin) bool {
	good := true
	wrong := func(format string, args ...any) {
		l.faults.at(at, "health %q: "+format, append([]any{p.Name}, args...)...)
		good = false
	}
	kinds := 0
	for _, s := range []string{p.HTTP, p.TCP, p.Unit, p.File, p.Command} {
		if s != "" {
			kinds++
		}
	}
	if kinds != 1 {
		wrong("give one of http, tcp, unit, file and command")
		return false
	}
	if u, err := url.Parse(p.HTTP); p.HTTP != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		wrong("http: %q is no URL of http or https", p.HTTP)
	}
	if p.TCP != "" {
		if _, _, err := net.SplitHostPort(p.TCP); err != nil {
			wrong("tcp: %q is no address with a port, such as localhost:5432", p.TCP)
		}
	}
	if p.Unit != "" && (!strings.Contains(p.Unit, ".") || strings.ContainsAny(p.Unit, "/*? ")) {
		wrong("unit: %q is no unit: write it with its type, such as nginx.service", p.Unit)
	}
	for key, file := range map[string]string{"file": p.File, "ca_file": p.CAFile} {
		if file != "" && !filepath.IsAbs(file) {
			wrong("%s: %q is no absolute path", key, file)
		}
	}
	if p.HTTP == "" && (p.Status != 0 || p.CAFile != "" || p.ServerName != "" || p.Insecure) {
		wrong("status, ca_file, server_name and insecure go with http alone")
	}
	if p.Contains != "" && p.HTTP == "" && p.File == "" && p.Command == "" {
		wrong("contains goes with http, file and command")
	}
	if p.Status != 0 && (p.Status < 100 || p.Status > 599) {
		wrong("status: %d is none of HTTP", p.Status)
	}
	if p.Within <= 0 || p.Within > maxWithin {
		wrong("within: %s is not between 0 and %s", p.Within, maxWithin)
	}
	if p.Every < minEvery || p.Every > p.Within {
		wrong("every: %s is not between %s and within", p.Every, minEvery)
	}
	if p.Times < 1 || p.Times > maxTimes {
		wrong("times: %d is not between 1 and %d", p.Times, maxTimes)
	}
	if good && time.Duration(p.Times-1)*p.Every > p.Within {
		wrong("times: %d looks, one each %s, take longer than within %s", p.Times, p.Every, p.Within)
	}
	return good
}
