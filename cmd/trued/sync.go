package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/control"
)

func (a *app) syncCommand() *cobra.Command {
	var req control.SyncRequest
	c := &cobra.Command{
		Use:     "sync",
		GroupID: "converge",
		Short:   "Ask the daemon to fetch and run now, and wait for the outcome",
		Example: `  trued sync
  trued sync --accept-prune     # remove what is held
  trued sync --now              # do not wait for windows
  trued sync --accept-history=3f9c2ab41d   # take that commit of a branch that was rewritten`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := control.Dial(c.Context(), agent.SocketPath)
			if err != nil {
				return err
			}
			return a.ask(c.Context(), client, req)
		},
	}
	c.Flags().BoolVar(&req.AcceptPrune, "accept-prune", false, "remove what is held")
	c.Flags().BoolVar(&req.IgnoreWindows, "now", false, "change what waits for its window, too")
	acceptHistory(c, &req.AcceptHistory, &req.AcceptCommit)
	return c
}

// ask has the daemon run, and tells what came of it.
func (a *app) ask(ctx context.Context, client *control.Client, req control.SyncRequest) error {
	progress := func(string) {}
	if terminal(a.err) {
		progress = func(line string) { fmt.Fprintf(a.err, "\r\033[K%s …", printable(line)) }
		defer fmt.Fprint(a.err, "\r\033[K")
	}
	reply, err := client.Sync(ctx, req, progress)
	var said *control.Error
	if errors.As(err, &said) {
		a.say("trued: %s", said.Message)
		switch said.Code {
		case agent.CodeSuspended:
			return &codeError{exitSuspended}
		case agent.CodeLocked:
			return &codeError{exitLocked}
		}
		return &codeError{exitUsage}
	}
	if err != nil {
		return err
	}
	if a.format == "json" {
		err = a.writeJSON(reply)
	} else {
		_, err = fmt.Fprintln(a.out, printable(capital(reply.Summary)))
	}
	if err == nil && reply.ExitCode != exitOK {
		err = &codeError{reply.ExitCode}
	}
	return err
}

func (a *app) pruneCommand() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:     "prune --source NAME",
		GroupID: "converge",
		Short:   "Remove from the host what a source that left the configuration holds",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if name == "" {
				return errors.New("prune needs --source NAME; 'trued status' lists orphans")
			}
			return a.apply(c.Context(), agent.Request{Trigger: "prune", PruneSource: name, Hasty: true})
		},
	}
	c.Flags().StringVar(&name, "source", "", "the source's name")
	a.rootFlag(c)
	return c
}

func (a *app) forgetCommand() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:     "forget --source NAME",
		GroupID: "converge",
		Short:   "Leave on the host what a source that left the configuration holds, and forget it",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if name == "" {
				return errors.New("forget needs --source NAME; 'trued status' lists orphans")
			}
			ag, err := a.open()
			if err != nil {
				return err
			}
			defer ag.Close()
			n, err := ag.Forget(c.Context(), name)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.out, "Forgot %d resources of source %q; they stay on the host as they are.\n", n, name)
			return err
		},
	}
	c.Flags().StringVar(&name, "source", "", "the source's name")
	a.rootFlag(c)
	return c
}
