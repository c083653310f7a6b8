package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"slices"
	"strings"
	"unicode/utf8"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// due says why the guards would have the command run, or "" when one of them
// would not. Those that only look at a path are asked first.
func (r *Resource) due(ctx context.Context) (string, error) {
	var why []string
	if r.Creates != "" {
		there, err := r.there(r.Creates)
		if err != nil || there {
			return "", err
		}
		why = append(why, r.Creates+" is missing")
	}
	if r.Removes != "" {
		there, err := r.there(r.Removes)
		if err != nil || !there {
			return "", err
		}
		why = append(why, r.Removes+" is there")
	}
	if r.host.Offline() {
		return strings.Join(append(why, "its guards cannot be asked"), " and "), nil
	}
	for _, g := range []struct {
		name, line string
		when       bool
	}{{"unless", r.Unless, false}, {"onlyif", r.OnlyIf, true}} {
		if g.line == "" {
			continue
		}
		ok, code, err := r.ask(ctx, g.line)
		if err != nil {
			return "", fmt.Errorf("cannot ask the guard %s: %w", g.name, err)
		}
		if ok != g.when {
			return "", nil
		}
		why = append(why, fmt.Sprintf("%s gave exit code %d", g.name, code))
	}
	return strings.Join(why, " and "), nil
}

func (r *Resource) there(path string) (bool, error) {
	_, err := r.host.Lstat(host.CleanPath(path))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// ask runs a guard.
func (r *Resource) ask(ctx context.Context, line string) (ok bool, code int, err error) {
	out, err := r.host.Run(ctx, r.command("/bin/sh", "-c", line))
	var exit *exec.ExitError
	switch {
	case err == nil:
		return true, 0, nil
	case ctx.Err() != nil, !errors.As(err, &exit), !exit.Exited():
		return false, 0, err
	default:
		return false, out.ExitCode, nil
	}
}

func (r *Resource) command(args ...string) host.Command {
	c := host.Command{Args: args, Dir: r.Dir, User: cmp.Or(r.As(), r.User), Sensitive: r.Sensitive}
	if c.Dir == "" {
		c.Dir = "/"
	}
	for name, value := range r.Env {
		c.Env = append(c.Env, name+"="+value)
	}
	slices.Sort(c.Env)
	return c
}

// A FailedError is a command that ended in a way that is no success.
type FailedError struct {
	// Command is what was run; empty when it is sensitive.
	Command string
	// How says how it ended.
	How string
	// Output is the end of what it printed; empty when it is sensitive.
	Output string
	Err    error
}

func (e *FailedError) Error() string {
	s := "the command " + e.How
	if e.Command != "" {
		s = fmt.Sprintf("%q %s", e.Command, e.How)
	}
	if e.Output != "" {
		s += ":\n" + e.Output
	}
	return s
}

func (e *FailedError) Unwrap() error { return e.Err }

// run runs the command to its end. What it leaves running is left alone.
func (r *Resource) run(ctx context.Context) (resource.Result, error) {
	args := r.Argv
	if args == nil {
		args = []string{"/bin/sh", "-c", r.line()}
	}
	call := r.command(args...)
	call.Stdin = r.Stdin
	out, err := r.host.Run(ctx, call)
	var exit *exec.ExitError
	ended := err == nil || errors.As(err, &exit) && exit.Exited() && ctx.Err() == nil
	if ended && r.accepts(out.ExitCode) {
		return r.told(out.Text), nil
	}
	failed := &FailedError{Err: err, Output: end(out.Text), Command: r.shown()}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		failed.How = "did not end within its timeout, and was ended"
	case ctx.Err() != nil:
		failed.How = "was ended: " + ctx.Err().Error()
	case ended:
		failed.How = fmt.Sprintf("gave exit code %d", out.ExitCode)
	case exit != nil:
		failed.How = "was ended by " + exit.String()
	default:
		return resource.Result{}, err // it was never started
	}
	if r.Sensitive {
		failed.Command, failed.Output, failed.Err = "", "", ctx.Err()
	}
	return resource.Result{}, failed
}

func (r *Resource) accepts(code int) bool {
	if r.ExitCodes == nil {
		return code == 0
	}
	return slices.Contains(r.ExitCodes, code)
}

// told is the result with what the command printed.
func (r *Resource) told(output string) resource.Result {
	text := end(output)
	switch {
	case text == "":
		return resource.Result{}
	case r.Sensitive:
		return resource.Result{Changes: resource.Diff{{Field: "output", Redacted: true}}}
	}
	return resource.Result{Changes: resource.Diff{{Field: "output", New: text}}}
}

// outputKept is how much is told of what a command printed: its end.
const outputKept = 1000

func end(output string) string {
	output = strings.TrimSpace(output)
	if len(output) <= outputKept {
		return output
	}
	output = output[len(output)-outputKept:]
	for !utf8.RuneStart(output[0]) {
		output = output[1:]
	}
	return "…" + output
}
