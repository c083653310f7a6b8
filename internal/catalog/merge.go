package catalog

import (
	"fmt"

	"trued.dev/trued/internal/resource"
)

// A Merged is what several sources come to together.
type Merged struct {
	// Catalogs are those that were taken, in order.
	Catalogs []*Catalog
	// Refused are those that were not.
	Refused []Refusal
}

// A Refusal is a catalog that clashes with an earlier one.
type Refusal struct {
	Catalog *Catalog
	Err     *Errors
}

// Entries returns the entries of all catalogs taken, in order.
func (m Merged) Entries() []Entry {
	var list []Entry
	for _, c := range m.Catalogs {
		list = append(list, c.Entries...)
	}
	return list
}

// Merge puts the catalogs of several sources together, in the order of the
// sources. One that has an address or a claim of an earlier one is refused as a
// whole, and that one alone.
func Merge(catalogs ...*Catalog) Merged {
	var m Merged
	held := claimed{}
	addresses := map[resource.Address]*Entry{}
	for _, c := range catalogs {
		if err := clashes(c, held, addresses); err != nil {
			m.Refused = append(m.Refused, Refusal{Catalog: c, Err: err})
			continue
		}
		for i := range c.Entries {
			e := &c.Entries[i]
			addresses[e.Address] = e
			if e.Resource != nil {
				held.add(e)
			}
		}
		m.Catalogs = append(m.Catalogs, c)
	}
	return m
}

func clashes(c *Catalog, held claimed, addresses map[resource.Address]*Entry) *Errors {
	var f faults
	for i := range c.Entries {
		e := &c.Entries[i]
		if other := addresses[e.Address]; other != nil && e.Address.Name != "" {
			f.at(e.Origin, "%s is in source %s already, in %s", e.Address, other.Origin.Source, other.Origin)
			continue
		}
		if e.Resource == nil {
			continue
		}
		if h, claim, clash := held.clash(e); clash {
			f.add(Error{Origin: e.Origin, Message: fmt.Sprintf("%s owns %s, which %s of source %s owns already, in %s",
				e.Address, claim, h.entry.Address, h.entry.Origin.Source, h.entry.Origin)})
		}
	}
	if err, ok := f.err().(*Errors); ok { //nolint:errorlint // made by us
		return err
	}
	return nil
}
