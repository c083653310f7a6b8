package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/trust"
)

func (a *app) trustCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "trust",
		GroupID: "author",
		Short:   "Check signatures as hosts do, and prepare a repository for it",
	}
	c.AddCommand(a.trustCheckCommand(), a.trustInitCommand())
	return c
}

func (a *app) trustCheckCommand() *cobra.Command {
	var from string
	var c agent.TrustConfig
	var repository, require, branch string
	cmd := &cobra.Command{
		Use:   "check DIR",
		Short: "Refuse, in CI, what hosts would refuse",
		Long: `Look at the newest commit of the clone in DIR as a host does that is at the commit
--from: its signature, its dates, its descent, the name in repository.yaml. By
default the repository lists its signers itself, in .trued/allowed_signers, and
--from is the introduction. With --allowed-signers or --keyring they are the files
that hosts have. The exit code is 4 for a commit that hosts would refuse.

The clone has to hold the commits since --from.`,
		Example: `  trued trust check . --from 3f9c1e6d5b0a4c2f8e7d6c5b4a39281706f5e4d3
  trued trust check . --from "$BASE" --require history --allowed-signers allowed_signers`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.Require = trust.Require(require)
			if c.AllowedSigners == "" && c.Keyring == "" {
				c.Signers = trust.InRepository
				if from == "" {
					return errors.New("trust check needs --from with the commit that hosts pin as introduction:, or the signers that hosts list: --allowed-signers, --keyring")
				}
			}
			if from != "" {
				if err := c.Introduction.UnmarshalText([]byte(from)); err != nil {
					return fmt.Errorf("--from: %w", err)
				}
			}
			return a.trustCheck(cmd.Context(), args[0], branch, repository, c)
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "the commit that hosts trust already, all 40 digits")
	f.StringVar(&require, "require", string(trust.Signature), "signature, or history")
	f.StringVar(&c.AllowedSigners, "allowed-signers", "", "who may sign by SSH")
	f.StringVar(&c.Keyring, "keyring", "", "who may sign by OpenPGP")
	f.StringVar(&c.Revoked, "revoked", "", "keys that are revoked")
	f.StringVar(&repository, "repository", "", "the name that repository.yaml must hold")
	f.StringVar(&branch, "branch", "", "the branch to look at; the one that is checked out")
	return cmd
}

func (a *app) trustCheck(ctx context.Context, dir, branch, repository string, c agent.TrustConfig) error {
	for _, path := range []*string{&c.AllowedSigners, &c.Keyring, &c.Revoked, &dir} {
		if *path == "" {
			continue
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = abs
	}
	v, err := agent.CheckTrust(ctx, agent.SourceConfig{
		Name: "clone", URL: dir, Branch: branch, Repository: repository, Trust: c,
	})
	var why *trust.Refusal
	switch {
	case errors.As(err, &why):
		a.say("trued: %v", why)
		if h := signingHint(why.Reason); h != "" {
			a.say("hint: %s", h)
		}
		if a.format == "json" {
			err = a.writeJSON(map[string]any{"trusted": false, "commit": why.Commit, "reason": why.Reason, "signer": why.Signer, "message": why.Error()})
		} else {
			err = nil
		}
		if err == nil {
			err = &codeError{exitBehind}
		}
		return err
	case err != nil && shallow(dir):
		return &shallowError{err}
	case err != nil:
		return err
	case a.format == "json":
		return a.writeJSON(map[string]any{"trusted": true, "commit": v.Commit, "signer": v.Signer, "key": v.Key, "level": v.Level})
	}
	_, err = fmt.Fprintln(a.out, printable(fmt.Sprintf("Commit %s is trusted, signed by %s.", agent.Short(v.Commit), v.Signer)))
	return err
}

// A shallowError is that of a clone which lacks commits.
type shallowError struct{ error }

func (e *shallowError) Unwrap() error { return e.error }

// shallow reports whether a clone was made without the commits before some.
func shallow(dir string) bool {
	for _, name := range []string{".git/shallow", "shallow"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// signingHint says what an author does about a commit that hosts would refuse.
func signingHint(why trust.Reason) string {
	switch why {
	case trust.Unsigned:
		return "sign it with 'git commit --amend --no-edit -S', and an earlier one with 'git rebase'; a forge's merge button signs for nobody"
	case trust.UnknownKey, trust.NotPermitted, trust.NotYetValid, trust.Expired, trust.Revoked:
		return "have it signed by somebody who is listed; a key is added by a commit that one who is listed signs"
	case trust.Future, trust.Backdated:
		return "the date is the committer's: 'git commit --amend --no-edit -S' sets it anew"
	case trust.Rewound:
		return "hosts take descendants of what they have alone: put the commits on top of that, such as with 'git rebase'"
	}
	return ""
}

func (a *app) trustInitCommand() *cobra.Command {
	var name string
	var signers []string
	c := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Write the files that a repository needs to be trusted",
		Long: `Write repository.yaml and .trued/allowed_signers into the repository in DIR (the
current directory by default). What is there is left as it is. Commit both with a
signature; that commit's name is the introduction that hosts pin.`,
		Example: `  trued trust init --name infra-prod --signer ada@example.com=~/.ssh/id_ed25519.pub`,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "."
			if len(args) == 1 {
				dir = args[0]
			}
			return a.trustInit(dir, name, signers)
		},
	}
	c.Flags().StringVar(&name, "name", "", "the repository's name, such as infra-prod")
	c.Flags().StringArrayVar(&signers, "signer", nil, "who may sign, as WHO=FILE with the public key; may be repeated")
	return c
}

func (a *app) trustInit(dir, name string, signers []string) error {
	if name == "" || len(signers) == 0 {
		return errors.New("trust init needs --name and --signer: without a signer nobody could ever change the repository")
	}
	var list strings.Builder
	for _, s := range signers {
		who, file, ok := strings.Cut(s, "=")
		if !ok {
			return fmt.Errorf("--signer %q is not WHO=FILE", s)
		}
		key, err := os.ReadFile(file) //nolint:gosec // the author says where it is
		if err != nil {
			return fmt.Errorf("cannot read the key of %q: %w", who, err)
		}
		fmt.Fprintf(&list, "%s namespaces=\"git\" %s\n", who, strings.TrimSpace(string(key)))
	}
	if problems := trust.ParseSigners([]byte(list.String()), nil).Problems; len(problems) > 0 {
		return fmt.Errorf("cannot list the signers: %w", problems[0])
	}
	head := "# Who may sign commits, from the next one on: see ssh-keygen(1), ALLOWED SIGNERS.\n"
	for _, f := range []struct{ name, text string }{
		{trust.NameFile, fmt.Sprintf("name: %s\n", name)},
		{trust.SignersFile, head + list.String()},
	} {
		path := filepath.Join(dir, f.name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // an author's work tree
			return err
		}
		out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // as above
		if errors.Is(err, os.ErrExist) {
			a.say("%s is there and stays as it is", path)
			continue
		}
		if err != nil {
			return err
		}
		_, err = out.WriteString(f.text)
		if err := errors.Join(err, out.Close()); err != nil {
			return err
		}
		a.say("wrote %s", path)
	}
	_, err := fmt.Fprintf(a.out, `Commit both with a signature (git commit -S). Hosts then follow the repository by

    repository: %s
    trust:
      require: signature
      signers: repository
      introduction: <the 40 digits of that commit>
`, name)
	return err
}
