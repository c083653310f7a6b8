package host

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"
)

// An AccountTool is a call of one of the system's own programs that change its
// users and groups, so that the files it keeps beside passwd and group, and the
// caches of names, stay right.
type AccountTool struct {
	Args  []string
	Stdin string
	// Sensitive keeps arguments and output out of errors.
	Sensitive bool
}

const (
	// lockTries bounds how often a program is started that found the account
	// files locked. Each waits some seconds by itself.
	lockTries = 20
	lockPause = 500 * time.Millisecond
)

// NoAccountTools says why the accounts of the machine cannot be changed from
// here, or "".
func (h *Host) NoAccountTools() string {
	if h.Offline() && os.Geteuid() != 0 {
		return "only root can change the accounts of a tree"
	}
	return ""
}

// RunAccountTool runs a program that changes accounts. While another one holds
// their lock it is tried again.
func (h *Host) RunAccountTool(ctx context.Context, t AccountTool) error {
	args := t.Args[:1:1]
	if h.Offline() {
		// --prefix would do without a change of root; the usermod of Debian 12
		// crashes with it.
		flag := "--root"
		args = append(args, flag, h.root)
	}
	args = append(args, t.Args[1:]...)
	for try := 1; ; try++ {
		_, err := h.Run(ctx, Command{Args: args, Stdin: t.Stdin})
		if err == nil {
			return nil
		}
		var failed *CommandError
		if !errors.As(err, &failed) || !strings.Contains(failed.Output, "cannot lock") || try == lockTries {
			return hideSecret(err, t.Sensitive)
		}
		select {
		case <-ctx.Done():
			return hideSecret(errors.Join(ctx.Err(), err), t.Sensitive)
		case <-time.After(lockPause):
		}
	}
}

// hideSecret takes what was said out of a command's error.
func hideSecret(err error, sensitive bool) error {
	var failed *CommandError
	if !sensitive || !errors.As(err, &failed) {
		return err
	}
	return &CommandError{Args: failed.Args[:1], Err: failed.Err}
}
