package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/kardianos/service"
	"github.com/spf13/cobra"

	"trued.dev/trued/agent"
	"trued.dev/trued/packaging"
)

func (a *app) installCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "install",
		GroupID: "setup",
		Short:   "Register the daemon with the init system",
		Long: `Register the daemon with the init system, where it was not installed as a
package: a systemd unit, or a script of another init system. It starts at the
next boot, or at once with the init system's own command.

With systemd the timer that goes back when the agent is dead comes along; with
another init system the agent alone goes back.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := a.service()
			if err != nil {
				return err
			}
			err = s.Install()
			already := err != nil && strings.Contains(err.Error(), "already exists")
			if err != nil && !already {
				return fmt.Errorf("cannot register the service with %s: %w", s.Platform(), err)
			}
			if s.Platform() == bySystemd {
				if err := installWayBack(c.Context()); err != nil {
					return fmt.Errorf("cannot register the way back with %s: %w", s.Platform(), err)
				}
			}
			if already {
				_, err = fmt.Fprintln(a.out, "The service is registered already.")
				return err
			}
			_, err = fmt.Fprintf(a.out, "Registered with %s. Write %s, then start the service.\n", s.Platform(), agent.DefaultConfig)
			return err
		},
	}
}

func (a *app) uninstallCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "uninstall",
		GroupID: "setup",
		Short:   "Take the daemon out of the init system; what it manages stays",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := a.service()
			if err != nil {
				return err
			}
			if s.Platform() == bySystemd {
				if err := uninstallWayBack(c.Context()); err != nil {
					return fmt.Errorf("cannot take the way back out of %s: %w", s.Platform(), err)
				}
			}
			st, err := s.Status()
			if errors.Is(err, service.ErrNotInstalled) {
				_, err = fmt.Fprintln(a.out, "The service is not registered.")
				return err
			}
			if err == nil && st == service.StatusRunning {
				if err := s.Stop(); err != nil {
					return fmt.Errorf("cannot stop the service: %w", err)
				}
			}
			if err := s.Uninstall(); err != nil {
				return fmt.Errorf("cannot take the service out of %s: %w", s.Platform(), err)
			}
			_, err = fmt.Fprintf(a.out, "Taken out of %s. What is managed, the configuration and the state stay.\n", s.Platform())
			return err
		},
	}
}

// service is the daemon as the init system sees it. Under systemd its unit is
// the one that the packages carry.
func (a *app) service() (service.Service, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot find this program: %w", err)
	}
	unit := strings.ReplaceAll(packaging.DaemonUnit, "/usr/bin/trued", self)
	s, err := service.New(program{}, &service.Config{
		Name:        "trued",
		DisplayName: "trued",
		Description: "Keeps this host true to Git",
		Executable:  self,
		Arguments:   []string{"run"},
		Option:      service.KeyValue{"SystemdScript": unit, "Restart": "on-failure"},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot find the init system: %w", err)
	}
	return s, nil
}

const (
	// bySystemd is what the library calls it.
	bySystemd = "linux-systemd"
	unitDir   = "/etc/systemd/system"
	timer     = "trued-rollback.timer"
	rescuer   = "trued-rollback.service"
)

// installWayBack registers what goes back when the agent is dead.
func installWayBack(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot find this program: %w", err)
	}
	for name, text := range map[string]string{timer: packaging.RollbackTimer, rescuer: packaging.RollbackUnit} {
		text = strings.ReplaceAll(text, "/usr/bin/trued", self)
		if err := os.WriteFile(filepath.Join(unitDir, name), []byte(text), 0o644); err != nil { //nolint:gosec // everybody may read a unit
			return err
		}
	}
	return errors.Join(systemctl(ctx, "daemon-reload"), systemctl(ctx, "enable", timer))
}

// uninstallWayBack takes that away again.
func uninstallWayBack(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(unitDir, timer)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	err := systemctl(ctx, "disable", "--now", timer)
	for _, name := range []string{timer, rescuer} {
		err = errors.Join(err, os.Remove(filepath.Join(unitDir, name)))
	}
	return errors.Join(err, systemctl(ctx, "daemon-reload"))
}

func systemctl(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput() //nolint:gosec // words of ours
	if err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// program satisfies service.Interface. The daemon is run by its own command, in
// the foreground, under every init system.
type program struct{}

func (program) Start(service.Service) error { return nil }
func (program) Stop(service.Service) error  { return nil }
