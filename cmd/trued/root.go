package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/fatih/color"
	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/health"
	"trued.dev/trued/internal/host"
	"trued.dev/trued/modules"
)

// app holds what all commands share: streams and the flags of the root.
type app struct {
	in       io.Reader
	out, err io.Writer

	config  string
	rootDir string
	source  string
	group   string
	format  string
}

const longAbout = `trued keeps this host true to Git.

It pulls the host's group directory from a Git repository, brings files,
packages and systemd units into the declared state, puts back what drifts, and
reports the applied commit and every drift to central logging.

Exit codes, the same for every command:
  0  in the desired state, or brought to it
  1  usage, configuration, or a tree with errors and no last good commit
  2  differences that were not applied
  3  some resource failed, or could not be checked, or the host is not healthy
  4  the newest commit could not be fetched, trusted or loaded, or is in quarantine
  5  another run holds the lock
  6  suspended`

func (a *app) root() *cobra.Command {
	c := &cobra.Command{
		Use:           "trued",
		Short:         "Keep this host true to Git",
		Long:          longAbout,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.format != "text" && a.format != "json" {
				return fmt.Errorf("unknown output format %q: write text or json", a.format)
			}
			return nil
		},
	}
	f := c.PersistentFlags()
	f.StringVar(&a.config, "config", agent.DefaultConfig, "the agent's configuration")
	f.StringVarP(&a.format, "output", "o", "text", "form of the output: text or json")
	c.AddGroup(
		&cobra.Group{ID: "converge", Title: "Converge:"},
		&cobra.Group{ID: "look", Title: "Look:"},
		&cobra.Group{ID: "author", Title: "Write a repository:"},
		&cobra.Group{ID: "setup", Title: "Set up:"},
	)
	for _, cmd := range []*cobra.Command{
		a.runCommand(), a.applyCommand(), a.syncCommand(), a.suspendCommand(), a.resumeCommand(),
		a.pruneCommand(), a.forgetCommand(),
		a.rollbackCommand(), a.pinCommand(), a.unpinCommand(), a.retryCommand(),
		a.waybackCommand(), a.planCommand(), a.statusCommand(), a.healthCommand(), a.historyCommand(), a.explainCommand(), a.factsCommand(), a.reportCommand(), a.backupCommand(),
		a.validateCommand(), a.trustCommand(), a.secretCommand(), a.schemaCommand(), a.docCommand(), a.demoCommand(),
		a.installCommand(), a.uninstallCommand(), a.versionCommand(),
		a.generateCommand(),
	} {
		c.AddCommand(cmd)
	}
	return c
}

// sourceFlags are those of commands that can work without a configuration.
func (a *app) sourceFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&a.source, "source", "", "a directory or repository URL, in place of the configured sources")
	f.StringVar(&a.group, "group", "", "the group's path in the source, in place of what hosts.yaml says")
	a.rootFlag(c)
}

func (a *app) rootFlag(c *cobra.Command) {
	c.Flags().StringVar(&a.rootDir, "root", "/", "work on the tree in `DIR` and not on the running system")
}

// open returns the agent that the flags describe.
func (a *app) open() (*agent.Agent, error) {
	root, err := filepath.Abs(orRoot(a.rootDir))
	if err != nil {
		return nil, fmt.Errorf("cannot find root %q: %w", a.rootDir, err)
	}
	if info, err := os.Stat(root); err != nil {
		return nil, fmt.Errorf("cannot work on root %q: %w", root, err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("cannot work on root %q: it is not a directory", root)
	}
	config, err := agent.LoadConfig(a.configPath(root), a.source != "")
	if err != nil {
		return nil, err
	}
	if a.source != "" {
		if err := config.UseSource(a.source, a.group); err != nil {
			return nil, err
		}
	} else if a.group != "" {
		config.UseGroup(a.group)
	}
	return agent.New(config, a.options(root))
}

func (a *app) options(root string) agent.Options {
	return agent.Options{
		Root:    root,
		Modules: modules.All,
		// The running program, also after another was installed in its place.
		FetchChild: []string{"/proc/self/exe", fetchChild},
		Version:    version,
		ExitCode:   exitCode,
		ConfigFile: a.keptConfig(root),
		Health:     prober,
		Log:        a.log(),
	}
}

// prober looks at a host that runs. In a tree nobody can be asked.
func prober(h *host.Host) agent.Prober {
	if h.Offline() {
		return nil
	}
	return health.New(h)
}

// keptConfig is the configuration by which a way back without the agent finds the
// sources; there is none for one that was named by hand.
func (a *app) keptConfig(root string) string {
	if a.source != "" || a.group != "" {
		return ""
	}
	return a.configPath(root)
}

// configPath is where the configuration is: below the root unless it was named.
func (a *app) configPath(root string) string {
	if a.config == agent.DefaultConfig {
		return filepath.Join(root, a.config)
	}
	return a.config
}

func orRoot(s string) string {
	if s == "" {
		return "/"
	}
	return s
}

// log is for what is of interest beside the events.
func (a *app) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{
		Level: slog.LevelInfo,
		ReplaceAttr: func(groups []string, at slog.Attr) slog.Attr {
			if len(groups) == 0 && at.Key == slog.TimeKey {
				return slog.Attr{} // the journal has its own
			}
			return at
		},
	}))
}

// terminal reports whether a stream is one.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// palette returns the colours for a stream: none where it is no terminal or
// NO_COLOR is set.
func palette(w io.Writer) colours {
	on := terminal(w) && os.Getenv("NO_COLOR") == ""
	paint := func(attr ...color.Attribute) func(string) painted {
		if !on {
			return func(s string) painted { return painted(printable(s)) }
		}
		c := color.New(attr...)
		c.EnableColor()
		return func(s string) painted { return painted(c.Sprint(printable(s))) }
	}
	return colours{
		add: paint(color.FgGreen), remove: paint(color.FgRed), change: paint(color.FgYellow),
		dim: paint(color.Faint), bold: paint(color.Bold),
	}
}

type colours struct{ add, remove, change, dim, bold func(string) painted }
