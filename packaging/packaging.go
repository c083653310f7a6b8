// Package packaging carries what the packages install and the program needs to
// know as well.
package packaging

import _ "embed" // what is here are files of their own

// DaemonUnit is the systemd unit of the daemon.
//
//go:embed trued.service
var DaemonUnit string

// The systemd units that go back in place of a daemon that does not.
var (
	//go:embed trued-rollback.timer
	RollbackTimer string
	//go:embed trued-rollback.service
	RollbackUnit string
)

// The JSON Schemas of what people write, for their editors.
var (
	//go:embed schema/manifest.schema.json
	ManifestSchema string
	//go:embed schema/group.schema.json
	GroupSchema string
	//go:embed schema/hosts.schema.json
	HostsSchema string
)
