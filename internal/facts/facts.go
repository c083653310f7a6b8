// Package facts says what a host is: its name, system, hardware and addresses,
// and what its operator wrote down about it.
//
// It reads files and asks the kernel. It starts no process, changes nothing and
// knows no desired state.
package facts

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"trued.dev/trued/internal/document"
)

// Facts are what is known about a host. They can be kept as JSON and read back
// without loss.
type Facts struct {
	Host    Host           `yaml:"host" json:"host"`
	OS      OS             `yaml:"os" json:"os"`
	Kernel  Kernel         `yaml:"kernel" json:"kernel"`
	Arch    string         `yaml:"arch" json:"arch"`
	CPU     CPU            `yaml:"cpu" json:"cpu"`
	Memory  Memory         `yaml:"memory" json:"memory"`
	Virtual string         `yaml:"virtual" json:"virtual"`
	Init    string         `yaml:"init" json:"init"`
	Network Network        `yaml:"network" json:"network"`
	Local   map[string]any `yaml:"local" json:"local"`

	// Unknown says why a fact is not known (yet), by its path, such as
	// "network.address". Its value above counts for nothing.
	Unknown map[string]string `yaml:"-" json:"unknown,omitempty"`
}

// Host is what the host is called.
type Host struct {
	Name string `yaml:"name" json:"name"`
	FQDN string `yaml:"fqdn" json:"fqdn"`
	// ID is the machine id.
	ID string `yaml:"id" json:"id"`
}

// OS is the distribution.
type OS struct {
	// Family is debian, rhel, suse or arch; ID where it is none of these.
	Family   string `yaml:"family" json:"family"`
	ID       string `yaml:"id" json:"id"`
	Version  string `yaml:"version" json:"version"`
	Codename string `yaml:"codename" json:"codename"`
}

// Kernel is the running kernel.
type Kernel struct {
	Version string `yaml:"version" json:"version"`
}

// CPU is the processors.
type CPU struct {
	Count int `yaml:"count" json:"count"`
}

// Memory is in bytes.
type Memory struct {
	Total int `yaml:"total" json:"total"`
}

// Network is how the host is reached.
type Network struct {
	// Address is that of the interface of the default route.
	Address    string               `yaml:"address" json:"address"`
	Interfaces map[string]Interface `yaml:"interfaces" json:"interfaces"`
}

// Interface is one network interface that has hardware or an address, and is
// not the loopback.
type Interface struct {
	MAC string `yaml:"mac" json:"mac"`
	// Addresses are without their prefix length, link-local ones left out.
	Addresses []string `yaml:"addresses" json:"addresses"`
}

// Data returns the facts as an expression and a template see them. What is
// unknown is left out.
func (f Facts) Data() map[string]any {
	interfaces := map[string]any{}
	for name, i := range f.Network.Interfaces {
		addresses := make([]any, len(i.Addresses))
		for k, a := range i.Addresses {
			addresses[k] = a
		}
		interfaces[name] = map[string]any{"mac": i.MAC, "addresses": addresses}
	}
	local := f.Local
	if local == nil {
		local = map[string]any{}
	}
	data := map[string]any{
		"host":    map[string]any{"name": f.Host.Name, "fqdn": f.Host.FQDN, "id": f.Host.ID},
		"os":      map[string]any{"family": f.OS.Family, "id": f.OS.ID, "version": f.OS.Version, "codename": f.OS.Codename},
		"kernel":  map[string]any{"version": f.Kernel.Version},
		"arch":    f.Arch,
		"cpu":     map[string]any{"count": f.CPU.Count},
		"memory":  map[string]any{"total": f.Memory.Total},
		"virtual": f.Virtual,
		"init":    f.Init,
		"network": map[string]any{"address": f.Network.Address, "interfaces": interfaces},
		"local":   local,
	}
	for path := range f.Unknown {
		remove(data, strings.Split(path, "."))
	}
	return data
}

func remove(data map[string]any, path []string) {
	if len(path) == 1 {
		delete(data, path[0])
		return
	}
	if below, ok := data[path[0]].(map[string]any); ok {
		remove(below, path[1:])
	}
}

// Paths returns the path of every fact, in order.
func Paths() []string {
	var paths []string
	for name, value := range (Facts{}).Data() {
		below, ok := value.(map[string]any)
		if !ok || name == "local" {
			paths = append(paths, name)
			continue
		}
		for key := range below {
			paths = append(paths, name+"."+key)
		}
	}
	slices.Sort(paths)
	return paths
}

// Nothing returns facts of which none is known, for the given reason.
func Nothing(reason string) Facts {
	f := Facts{Unknown: map[string]string{}}
	for _, path := range Paths() {
		f.Unknown[path] = reason
	}
	return f
}

// Without returns a copy in which one fact is unknown.
func (f Facts) Without(path, reason string) Facts {
	f.Unknown = maps.Clone(f.Unknown)
	if f.Unknown == nil {
		f.Unknown = map[string]string{}
	}
	f.Unknown[path] = reason
	return f
}

// UnmarshalJSON reads what json.Marshal wrote; a whole number among the local
// facts stays one.
func (f *Facts) UnmarshalJSON(data []byte) error {
	type plain Facts
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var p plain
	if err := dec.Decode(&p); err != nil {
		return err
	}
	for key, value := range p.Local {
		p.Local[key] = numbers(value)
	}
	*f = Facts(p)
	return nil
}

func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return int(i)
		}
		fl, _ := v.Float64()
		return fl
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = numbers(v[key])
		}
	}
	return v
}

// Read takes facts from a document, such as those that a repository gives to be
// validated with. A fact that is not in it is not known, for the given reason.
func Read(doc *document.Node, reason string) (Facts, []document.Problem) {
	f := Facts{}
	problems := document.NewDecoder().Decode(doc, &f)
	for _, path := range Paths() {
		n := doc
		for key := range strings.SplitSeq(path, ".") {
			if n = n.Get(key); n == nil {
				f = f.Without(path, reason)
				break
			}
		}
	}
	return f, problems
}
