//go:build !generate

package main

import "github.com/spf13/cobra"

// generators are in the program that writes documents: see generate.go.
func generators() []*cobra.Command { return nil }
