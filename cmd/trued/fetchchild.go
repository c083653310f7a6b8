package main

import (
	"context"
	"os"

	"trued.dev/trued/internal/source"
)

// fetchChild is the command line of the process that talks to the network: it is
// started by this program, told over a pipe what to fetch, and can be killed. It
// is no command like the others, since a poll may be made every second: nothing
// is set up for it that it does not use. A signal to stop is for the parent,
// which ends it.
const fetchChild = "fetch-child"

func isFetchChild(args []string) bool { return len(args) == 1 && args[0] == fetchChild }

func (a *app) serveFetch() int {
	return a.exit(source.ServeFetch(context.Background(), os.Stdin, os.Stdout))
}
