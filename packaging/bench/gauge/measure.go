package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const cgroups = "/sys/fs/cgroup"

// An order is programs to measure, in turn, several times over, so that what
// else the machine does falls on all alike.
type order struct {
	Repeat   int       `json:"repeat"`
	Commands []command `json:"commands"`
}

type command struct {
	Name string `json:"name"`
	// Before is a line of shell that is run first and not measured.
	Before string   `json:"before"`
	Argv   []string `json:"argv"`
	Env    []string `json:"env"`
	Dir    string   `json:"dir"`
}

// A sample is what one start took.
type sample struct {
	CPU  time.Duration `json:"cpu"`
	Wall time.Duration `json:"wall"`
	// Asked is what systemd and D-Bus took meanwhile, for what it asked of them.
	Asked time.Duration `json:"asked"`
	// Peak is the largest resident size of one process, in KiB.
	Peak int64  `json:"peak"`
	Out  string `json:"out"`
}

func (o order) measure() (map[string][]sample, error) {
	samples := map[string][]sample{}
	for range o.Repeat {
		for _, c := range o.Commands {
			s, err := c.measure()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.Name, err)
			}
			samples[c.Name] = append(samples[c.Name], s)
		}
	}
	return samples, nil
}

func (c command) measure() (sample, error) {
	if c.Before != "" {
		if out, err := exec.Command("bash", "-euo", "pipefail", "-c", c.Before).CombinedOutput(); err != nil { //nolint:gosec // what the bench says
			return sample{}, fmt.Errorf("%q: %w\n%s", c.Before, err, out)
		}
	}
	group, err := os.MkdirTemp(cgroups, "gauge-")
	if err != nil {
		return sample{}, err
	}
	defer func() { _ = clear(group) }()
	dir, err := os.Open(group) //nolint:gosec // a control group that it has made
	if err != nil {
		return sample{}, err
	}
	defer dir.Close()
	cmd := exec.Command(c.Argv[0], c.Argv[1:]...) //nolint:gosec // what the bench says
	cmd.Env, cmd.Dir = append(os.Environ(), c.Env...), c.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	before, err := systemd()
	if err != nil {
		return sample{}, err
	}
	start := time.Now()
	err = cmd.Run()
	wall := time.Since(start)
	if err != nil {
		return sample{}, fmt.Errorf("%q: %w\n%s", c.Argv, err, tail(out.String()))
	}
	cpu, err := used(group)
	if err != nil {
		return sample{}, err
	}
	after, err := systemd()
	if err != nil {
		return sample{}, err
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return sample{}, errors.New("the system does not say what a process used")
	}
	return sample{CPU: cpu, Wall: wall, Asked: after - before, Peak: usage.Maxrss, Out: tail(out.String())}, nil
}

// used returns the CPU time of all that ever ran in a group.
func used(group string) (time.Duration, error) {
	stat, err := os.ReadFile(filepath.Join(group, "cpu.stat")) //nolint:gosec // the bench says which
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(stat)) {
		if rest, ok := strings.CutPrefix(line, "usage_usec "); ok {
			us, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
			return time.Duration(us) * time.Microsecond, err
		}
	}
	return 0, fmt.Errorf("%s/cpu.stat does not say what was used", group)
}

// systemd returns the CPU time of PID 1 and of D-Bus so far.
func systemd() (time.Duration, error) {
	var sum time.Duration
	for _, group := range []string{"init.scope", "system.slice/dbus.service"} {
		cpu, err := used(filepath.Join(cgroups, group))
		if err != nil {
			return 0, err
		}
		sum += cpu
	}
	return sum, nil
}

// clear ends what was left behind in a group.
func clear(group string) error {
	if err := os.WriteFile(filepath.Join(group, "cgroup.kill"), []byte("1"), 0); err != nil {
		return err
	}
	var err error
	for range 100 {
		if err = syscall.Rmdir(group); !errors.Is(err, syscall.EBUSY) {
			return err
		}
		time.Sleep(10 * time.Millisecond) // the kernel tells nobody
	}
	return err
}

// tail is enough to see what a program had to say.
func tail(out string) string { return out[max(0, len(out)-4096):] }
