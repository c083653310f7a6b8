package catalog

import "time"

// A Probe is one look at whether the host is healthy.
type Probe struct {
	Name    string
	HTTP    string
	TCP     string
	Unit    string
	File    string
	Command string
	// Within is how long it may take until it is good, Every the pause between two
	// looks, and Times how many of them in a row must be good.
	Within, Every time.Duration
	Times         int
}
