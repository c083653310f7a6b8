// Package health tells whether the host serves: by the probes that its groups
// name, and by whether it still reaches what it reached before.
//
// It looks and waits. What follows from it is decided elsewhere.
package health

// A Failure is a probe that was not good in its time.
type Failure struct {
	Probe string `json:"probe"`
	Why   string `json:"why"`
}

func (f Failure) String() string { return f.Probe + ": " + f.Why }
