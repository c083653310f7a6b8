package main

import (
	"errors"
	"fmt"
	"os"
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
next boot, or at once with the init system's own command.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := a.service()
			if err != nil {
				return err
			}
			if err := s.Install(); err != nil {
				if strings.Contains(err.Error(), "already exists") {
					_, err = fmt.Fprintln(a.out, "The service is registered already.")
					return err
				}
				return fmt.Errorf("cannot register the service with %s: %w", s.Platform(), err)
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
		RunE: func(*cobra.Command, []string) error {
			s, err := a.service()
			if err != nil {
				return err
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

// program satisfies service.Interface. The daemon is run by its own command, in
// the foreground, under every init system.
type program struct{}

func (program) Start(service.Service) error { return nil }
func (program) Stop(service.Service) error  { return nil }
