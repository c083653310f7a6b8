package host

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/google/shlex"

	"trued.dev/trued/internal/resource"
)

// SplitCommand splits a command line like a shell, and runs no shell. An empty
// one is an error.
func SplitCommand(line string) ([]string, error) {
	args, err := shlex.Split(line)
	if err != nil {
		return nil, fmt.Errorf("cannot split command %q: %w", line, err)
	}
	if len(args) == 0 {
		return nil, fmt.Errorf("command %q is empty", line)
	}
	return args, nil
}

// validate runs the command that must accept the file called base.
func (s *StagedFile) validate(ctx context.Context, base string) error {
	args, err := SplitCommand(s.spec.Validate)
	if err != nil {
		return err
	}
	file := filepath.Join(s.Dir(), base)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "{path}", file)
	}
	if _, err := s.host.Run(ctx, Command{Args: args, User: s.spec.ValidateAs, Sensitive: s.spec.Sensitive || s.spec.Kept}); err != nil {
		return fmt.Errorf("%q was not accepted: %w", s.name, err)
	}
	return nil
}

// Deputed is embedded by resources that have a command judge their file: whoever
// limits the host says as whom it runs.
type Deputed struct{ as string }

// RunAs implements resource.Deputy.
func (d *Deputed) RunAs(user string) { d.as = user }

// As is the user whom commands run as; empty for the agent's own.
func (d *Deputed) As() string { return d.as }

// ValidateProgram is what a `validate` has run; nothing where there is none.
func ValidateProgram(line string) []resource.Program {
	if line == "" {
		return nil
	}
	args, err := SplitCommand(line)
	if err != nil {
		return nil
	}
	return []resource.Program{{By: "validate", Argv: args}}
}
