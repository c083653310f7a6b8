package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/spf13/cobra"

	"trued.dev/trued/agent"
)

//go:embed all:demo/repository
var demoRepository embed.FS

func (a *app) demoCommand() *cobra.Command {
	var keep bool
	c := &cobra.Command{
		Use:     "demo",
		GroupID: "author",
		Short:   "The whole loop in a scratch directory, as any user, in seconds",
		Long: `Make an example repository and an empty host in a scratch directory, and show
the loop: a first converge, a drift put back, a commit applied, and its revert.
It needs neither root nor network nor git, and touches nothing else.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := os.MkdirTemp("", "trued-demo-")
			if err != nil {
				return fmt.Errorf("cannot make scratch directory: %w", err)
			}
			if keep {
				defer fmt.Fprintf(a.out, "\nThe repository and the host are in %s.\n", dir)
			} else {
				defer os.RemoveAll(dir)
			}
			return newDemo(a, dir).show(c.Context())
		},
	}
	c.Flags().BoolVar(&keep, "keep", false, "leave the scratch directory to look around in")
	return c
}

// demo is an example repository and a host that is kept to it.
type demo struct {
	app  app
	repo string
	host string
	git  *demoGit
}

func newDemo(a *app, dir string) *demo {
	d := &demo{repo: filepath.Join(dir, "infra"), host: filepath.Join(dir, "host")}
	d.app = app{
		in: a.in, out: a.out, err: a.err, format: "text",
		config: filepath.Join(dir, "trued.yaml"), rootDir: d.host,
	}
	return d
}

func (d *demo) show(ctx context.Context) error {
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"A repository with two groups, and a host that has nothing yet", d.begin},
		{"First converge", d.apply},
		{"Somebody edits the host by hand: what a run would do about it, and the run", d.drift},
		{"A commit: four workers and a new page", d.change},
		{"The commit is reverted in Git; the new page goes again", d.revert},
		{"And in the end", d.status},
	} {
		d.say("\n== %s\n", step.title)
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.app.out, format+"\n", args...) }

func (d *demo) begin(context.Context) error {
	files, err := fs.Sub(demoRepository, "demo/repository")
	if err != nil {
		return err
	}
	if err := os.CopyFS(d.repo, files); err != nil {
		return fmt.Errorf("cannot write example repository: %w", err)
	}
	config := fmt.Sprintf("sources:\n  - name: infra\n    url: %q\n    branch: main\n", d.repo)
	err = errors.Join(
		os.MkdirAll(filepath.Join(d.host, "etc"), 0o755), //nolint:gosec // a host's root
		os.WriteFile(filepath.Join(d.host, "etc/hostname"), []byte("web-1\n"), 0o600),
		os.WriteFile(d.app.config, []byte(config), 0o600),
	)
	if err != nil {
		return fmt.Errorf("cannot make an empty host: %w", err)
	}
	d.git, err = newDemoGit(d.repo)
	if err != nil {
		return fmt.Errorf("cannot make example repository: %w", err)
	}
	if err := d.commit("Describe the web servers"); err != nil {
		return err
	}
	return fs.WalkDir(files, ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			d.say("  %s", name)
		}
		return err
	})
}

func (d *demo) commit(message string) error { return d.committed(message, d.git.commit) }

// committed has a commit made and says so.
func (d *demo) committed(message string, commit func(string) (plumbing.Hash, error)) error {
	hash, err := commit(message)
	if err != nil {
		return fmt.Errorf("cannot commit: %w", err)
	}
	d.say("$ git commit -m %q    # %s", message, agent.Short(hash.String()))
	return nil
}

func (d *demo) apply(ctx context.Context) error {
	d.say("$ trued apply")
	return told(d.app.apply(ctx, agent.Request{Trigger: "apply", Fetch: true, Hasty: true}))
}

func (d *demo) plan(ctx context.Context) error {
	d.say("$ trued plan")
	return told(d.app.plan(ctx, agent.Request{Trigger: "plan", Fetch: true, Hasty: true}))
}

// told drops the exit code of a command whose words say it already.
func told(err error) error {
	var code *codeError
	if errors.As(err, &code) && code.code == exitDiffers {
		return nil
	}
	return err
}

func (d *demo) drift(ctx context.Context) error {
	motd := filepath.Join(d.host, "etc/motd")
	d.say("$ echo 'I was here' >>/etc/motd; chmod 0666 /etc/app/app.conf; rm /etc/app/current")
	data, err := os.ReadFile(motd) //nolint:gosec // in a directory of the demo's own
	if err != nil {
		return err
	}
	err = errors.Join(
		os.WriteFile(motd, append(data, "I was here\n"...), 0o644), //nolint:gosec // a drift to be seen
		os.Chmod(filepath.Join(d.host, "etc/app/app.conf"), 0o666), //nolint:gosec // a drift to be seen
		os.Remove(filepath.Join(d.host, "etc/app/current")),
	)
	if err != nil {
		return err
	}
	if err := d.plan(ctx); err != nil {
		return err
	}
	return d.apply(ctx)
}

func (d *demo) change(ctx context.Context) error {
	group := filepath.Join(d.repo, "groups/web/group.yaml")
	data, err := os.ReadFile(group) //nolint:gosec // in a directory of the demo's own
	if err != nil {
		return err
	}
	err = errors.Join(
		os.WriteFile(group, []byte(strings.Replace(string(data), "workers: 2", "workers: 4", 1)), 0o600), //nolint:gosec // a file of the demo's own
		os.WriteFile(filepath.Join(d.repo, "groups/web/files/site/news.html"), []byte("<h1>News</h1>\n"), 0o600),
	)
	if err != nil {
		return err
	}
	if err := d.commit("Four workers, and a page of news"); err != nil {
		return err
	}
	if err := d.plan(ctx); err != nil {
		return err
	}
	return d.apply(ctx)
}

func (d *demo) revert(ctx context.Context) error {
	if err := d.committed(`Revert "Four workers, and a page of news"`, d.git.revert); err != nil {
		return err
	}
	return d.apply(ctx)
}

func (d *demo) status(ctx context.Context) error {
	d.say("$ trued status")
	ag, err := d.app.open()
	if err != nil {
		return err
	}
	defer ag.Close()
	s, err := ag.Status(ctx)
	if err != nil {
		return err
	}
	return d.app.printStatus(s)
}
