package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

func (a *app) backupCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "backup",
		GroupID: "look",
		Short:   "What trued replaced on this host, and how to have it back",
		Long: `Files that trued replaced or removed, each with its attributes, when, by which
resource and at which commit. They are kept within the bounds that ` + "`backups:`" + ` sets
in trued.yaml; what prune may have to give back stays in any case.`,
		Args: cobra.NoArgs,
	}
	c.AddCommand(a.backupListCommand(), a.backupShowCommand(), a.backupRestoreCommand())
	return c
}

func (a *app) backupListCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "list [PATH]",
		Short: "All copies, the newest first; with a path those of that file, or of what is below that directory",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			ag, err := a.open()
			if err != nil {
				return err
			}
			defer ag.Close()
			list, err := ag.Backups(strings.Join(args, ""))
			if err != nil {
				return err
			}
			if a.format == "json" {
				if list == nil {
					list = []host.Backup{}
				}
				return a.writeJSON(list)
			}
			p := printer{w: a.out, c: palette(a.out)}
			if len(list) == 0 {
				p.line("Nothing that trued replaced is kept here.")
			}
			for _, b := range list {
				p.backup(b)
			}
			return p.err
		},
	}
	a.rootFlag(c)
	return c
}

// backup prints a copy on one line.
func (p *printer) backup(b host.Backup) {
	words := []string{b.ID, b.Time.Local().Format(time.DateTime), fmt.Sprintf("%8d", b.Size), b.Mode.String(), printable(b.Path)}
	if b.Secret {
		words = append(words, "(secret)")
	}
	if b.Resource != (resource.Address{}) {
		words = append(words, "by "+printable(b.Resource.String()))
	}
	if b.Revision != "" {
		words = append(words, "at "+agent.Short(b.Revision))
	}
	p.line("%s", strings.Join(words, "  "))
}

func (a *app) backupShowCommand() *cobra.Command {
	var diff bool
	c := &cobra.Command{
		Use:   "show PATH|ID",
		Short: "The content of a copy, the newest one of a path; a secret's is never shown",
		Example: `  trued backup show /etc/nginx/nginx.conf
  trued backup show --diff 1f0c2aa4     # what restoring it would change`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ag, err := a.open()
			if err != nil {
				return err
			}
			defer ag.Close()
			b, err := ag.Backup(args[0])
			if err != nil {
				return err
			}
			if diff {
				changes, err := ag.CompareBackup(c.Context(), b)
				if err != nil {
					return err
				}
				if a.format == "json" {
					return a.writeJSON(struct {
						host.Backup
						Changes resource.Diff `json:"changes"`
					}{b, append(resource.Diff{}, changes...)})
				}
				p := printer{w: a.out, c: palette(a.out)}
				p.backup(b)
				if len(changes) == 0 {
					p.line("    %s is like that now", printable(b.Path))
				}
				p.changes(changes)
				return p.err
			}
			if a.format == "json" {
				return a.writeJSON(b)
			}
			if b.Secret {
				p := printer{w: a.out, c: palette(a.out)}
				p.backup(b)
				p.line("    its content is a secret and is not shown; 'trued backup restore --to FILE %s' writes it", b.ID)
				return p.err
			}
			r, err := ag.BackupContent(b)
			if err != nil {
				return err
			}
			defer r.Close()
			_, err = io.Copy(a.out, r)
			return err
		},
	}
	c.Flags().BoolVar(&diff, "diff", false, "what restoring it would change, in place of its content")
	a.rootFlag(c)
	return c
}

func (a *app) backupRestoreCommand() *cobra.Command {
	var to string
	var wait time.Duration
	c := &cobra.Command{
		Use:   "restore PATH|ID",
		Short: "Put a copy back with the attributes that it had; what is there now is kept in its turn",
		Example: `  trued backup restore /etc/nginx/nginx.conf
  trued backup restore --to /root/nginx.conf 1f0c2aa4`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ag, err := a.open()
			if err != nil {
				return err
			}
			defer ag.Close()
			b, err := ag.Backup(args[0])
			if err != nil {
				return err
			}
			if to == "" {
				to = b.Path
			} else if err := host.CheckPath("--to", to); err != nil {
				return err
			}
			managed, err := ag.RestoreBackup(c.Context(), b, host.CleanPath(to), wait)
			if err != nil {
				return err
			}
			var owner string
			if managed != (resource.Address{}) {
				owner = managed.String()
				a.say("trued: %s manages %s: the next run will put its own back", owner, to)
				a.say("hint: stop runs first with 'trued suspend --reason R', or change it in Git")
			}
			if a.format == "json" {
				return a.writeJSON(struct {
					host.Backup
					To      string `json:"to"`
					Managed string `json:"managed_by,omitempty"`
				}{b, to, owner})
			}
			_, err = fmt.Fprintf(a.out, "Restored %s as it was on %s.\n", printable(to), b.Time.Local().Format(time.DateTime))
			return err
		},
	}
	c.Flags().StringVar(&to, "to", "", "write it to `FILE`, and not to where it was")
	c.Flags().DurationVar(&wait, "wait", time.Minute, "wait this long for a run to end")
	a.rootFlag(c)
	return c
}
