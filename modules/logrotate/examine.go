package logrotate

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"trued.dev/trued/internal/host"
)

const program = "logrotate"

// examine has logrotate read a file without rotating anything. Its exit code
// tells nothing: a log that is not there yet is an error to it as well. So what
// it says is read, up to where it goes on to the logs themselves; of those there
// may be so many that the beginning would not be kept.
func (r *Resource) examine(ctx context.Context, file string) error {
	tool := host.LocalProgram(program)
	if tool == "" {
		return errors.New("logrotate, which must accept the file, is not installed")
	}
	const line = `"$1" --debug --state /dev/null "$2" 2>&1 | head -c 32768`
	out, err := r.host.Run(ctx, host.Command{Args: []string{"/bin/sh", "-c", line, "sh", tool, file}, Sensitive: r.Sensitive})
	if err != nil {
		return err
	}
	read, rest, judged := strings.Cut(out.Text, "\nReading state from file")
	faults := faultsOf(read, file, r.File)
	switch {
	case len(faults) == 0 && judged:
		return nil
	case r.Sensitive:
		return errors.New("logrotate does not accept it; what it says is not shown, for the file is sensitive")
	case len(faults) == 0:
		return fmt.Errorf("logrotate does not accept it: %s", strings.TrimSpace(read+rest))
	}
	return fmt.Errorf("logrotate does not accept it: %s", strings.Join(faults, "; "))
}

// faultsOf returns what logrotate finds wrong with a file, which has another name
// in it while it is examined.
func faultsOf(read, file, name string) []string {
	var faults []string
	for line := range strings.Lines(read) {
		line = strings.TrimSpace(line)
		text, fault := strings.CutPrefix(line, "error: ")
		if !fault && !strings.HasPrefix(line, "Ignoring "+file) {
			continue
		}
		text = strings.ReplaceAll(text, file+":", "line ")
		faults = append(faults, strings.ReplaceAll(text, file, name))
	}
	return faults
}
