// Package packaging carries what the packages install and the program needs to
// know as well.
package packaging

import _ "embed" // the unit is a file of its own

// DaemonUnit is the systemd unit of the daemon.
//
//go:embed trued.service
var DaemonUnit string
