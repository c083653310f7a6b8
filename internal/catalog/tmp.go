package catalog

import "trued.dev/trued/internal/resource"

type Entry struct {
	Address  resource.Address
	Resource resource.Resource
	Module   resource.Module
	Origin   resource.Origin
	Pending  string
}
