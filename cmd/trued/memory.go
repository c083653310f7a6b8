package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// hideMemory keeps what is in memory, secrets too, out of core dumps, and other
// processes of the same user from looking at it. What is started begins anew.
func hideMemory() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot keep memory out of core dumps: %w", err)
	}
	return nil
}
