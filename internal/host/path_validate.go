package host

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/google/shlex"
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
	if _, err := s.host.Run(ctx, Command{Args: args, Sensitive: s.spec.Sensitive}); err != nil {
		return fmt.Errorf("%q was not accepted: %w", s.name, err)
	}
	return nil
}
