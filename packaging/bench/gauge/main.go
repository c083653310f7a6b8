// Command gauge runs on a host that is measured: it starts programs one after
// another and says what CPU time and memory they took, does by the shortest way
// what an agent must do at least, and asks a daemon for runs and says what they
// took.
//
// A program is measured in a control group of its own, so that what it started
// and did not wait for counts as well.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

func main() {
	if err := do(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gauge:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: gauge measure | floor (nothing|lstat|read|write) DIR COUNT | daemon UNIT COUNT | idle UNIT DURATION | many COUNT | drift DIR COUNT PAUSE (idle|busy)")

func do(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "measure":
		var o order
		if err := json.NewDecoder(os.Stdin).Decode(&o); err != nil {
			return fmt.Errorf("cannot read what to measure: %w", err)
		}
		samples, err := o.measure()
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(samples)
	case len(args) == 4 && args[0] == "floor":
		n, err := strconv.Atoi(args[3])
		if err != nil {
			return errUsage
		}
		return floor(args[1], args[2], n)
	case len(args) == 3 && args[0] == "daemon":
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return errUsage
		}
		return daemon(args[1], n)
	case len(args) == 3 && args[0] == "idle":
		alone, err := time.ParseDuration(args[2])
		if err != nil {
			return errUsage
		}
		return idle(args[1], alone)
	case len(args) == 5 && args[0] == "drift":
		n, err := strconv.Atoi(args[2])
		pause, bad := time.ParseDuration(args[3])
		if err != nil || bad != nil {
			return errUsage
		}
		return drift(args[1], n, pause, args[4] == "busy")
	case len(args) == 2 && args[0] == "many":
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return errUsage
		}
		return many(n)
	}
	return errUsage
}
