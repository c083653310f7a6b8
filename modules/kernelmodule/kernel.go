package kernelmodule

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/host"
)

// kernel is the running one: what it has loaded, and what it could load.
type kernel struct {
	sys, proc, lib string
	host           *host.Host
	// modprobe returns how the program is called; nothing where it is missing.
	modprobe func() []string
}

// presence is how a kernel has a module.
type presence int

const (
	missing presence = iota
	loaded
	builtIn
)

// find tells how the kernel has a module now. What is built in shows in /sys when
// it has parameters, and without the state that all others have.
func (k kernel) find(name string) (presence, error) {
	dir := filepath.Join(k.sys, name)
	_, err := os.Stat(filepath.Join(dir, "initstate"))
	if err == nil {
		return loaded, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return missing, fmt.Errorf("cannot tell whether the module %q is loaded: %w", name, err)
	}
	if _, err := os.Stat(dir); err == nil {
		return builtIn, nil
	}
	if there, err := k.listed(name); there || err != nil {
		return loaded, err // in a container that does not see /sys/module
	}
	part, err := k.lists("modules.builtin", name)
	if part {
		return builtIn, err
	}
	return missing, err
}

// listed reports whether /proc/modules has a module.
func (k kernel) listed(name string) (bool, error) {
	data, err := os.ReadFile(k.proc)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, name+" ") {
			return true, nil
		}
	}
	return false, err
}

// A MissingError is a module that the kernel does not have.
type MissingError struct{ Module, Why string }

func (e *MissingError) Error() string {
	return fmt.Sprintf("the kernel has no module %q: %s", e.Module, e.Why)
}

// An InUseError is a module that cannot be unloaded.
type InUseError struct {
	Module string
	Err    error
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("the module %q is in use, and cannot be unloaded: %v", e.Module, e.Err)
}

func (e *InUseError) Unwrap() error { return e.Err }

// has returns an error for a module that could not be loaded from here.
func (k kernel) has(name string) error {
	if _, err := os.Stat(k.directory()); err != nil {
		return &MissingError{name, fmt.Sprintf("there is no %s. In a container the machine must load it; "+
			"after an upgrade of the kernel the machine must be booted first", k.directory())}
	}
	there, err := k.lists("modules.dep", name)
	if err == nil && !there {
		err = &MissingError{name, "it is misspelled, or its package is missing"}
	}
	return err
}

func (k kernel) directory() string { return filepath.Join(k.lib, running()) }

// running is the release of the kernel.
func running() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// lists reports whether one of the lists beside the modules has a module.
func (k kernel) lists(list, name string) (bool, error) {
	f, err := os.Open(filepath.Join(k.directory(), list)) //nolint:gosec // the kernel's own lists
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot read what modules there are: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		file, _, _ := strings.Cut(lines.Text(), ":")
		base, _, _ := strings.Cut(path.Base(file), ".ko")
		if normal(base) == name {
			return true, nil
		}
	}
	if err := lines.Err(); err != nil {
		return false, fmt.Errorf("cannot read what modules there are: %w", err)
	}
	return false, nil
}

// parameter returns what a parameter of a module is; nothing for one that the
// kernel does not show.
func (k kernel) parameter(name, key string) (value string, known bool, err error) {
	data, err := os.ReadFile(filepath.Join(k.sys, name, "parameters", key)) //nolint:gosec // both are checked to be names
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return "", false, nil
	}
	return strings.TrimSpace(string(data)), err == nil, err
}

// sameParameter compares values as the kernel takes them: what is on or off has
// several words.
func sameParameter(a, b string) bool {
	word := func(s string) string {
		switch strings.ToLower(s) {
		case "y", "1", "yes", "true", "on":
			return "1"
		case "n", "0", "no", "false", "off":
			return "0"
		}
		return s
	}
	return word(a) == word(b)
}

// set loads or unloads a module.
func (k kernel) set(ctx context.Context, name string, load, sensitive bool) error {
	call := k.modprobe()
	if call == nil {
		return errors.New("modprobe is not installed: declare the package kmod")
	}
	how, args := "load", []string{"--", name}
	if !load {
		how, args = "unload", []string{"--remove", "--", name}
	}
	_, err := k.host.Run(ctx, host.Command{Args: slices.Concat(call, args), Sensitive: sensitive})
	if err == nil {
		return nil
	}
	if now, e := k.find(name); !load && e == nil && now == loaded && ctx.Err() == nil {
		return &InUseError{Module: name, Err: err}
	}
	return fmt.Errorf("cannot %s the module %q: %w", how, name, err)
}
