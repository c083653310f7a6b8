package metrics

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// Config is the part of the agent's configuration that is about metrics.
type Config struct {
	Listen   Address  `yaml:"listen" doc:"where they can be scraped: the path of a socket, or 127.0.0.1:PORT"`
	Textfile Textfile `yaml:"textfile" doc:"a file for the node exporter, ending in .prom"`
}

// An Address is the path of a Unix socket, or a port of the loopback interface:
// metrics say much about a host, and no more than that protects them.
type Address string

// UnmarshalText takes no other address.
func (a *Address) UnmarshalText(text []byte) error {
	s := string(text)
	if strings.HasPrefix(s, "/") {
		*a = Address(host.CleanPath(s))
		return checkPath(s)
	}
	at, err := netip.ParseAddrPort(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q is no address: write the path of a socket, 127.0.0.1:PORT or [::1]:PORT", s)
	case !at.Addr().IsLoopback():
		return fmt.Errorf("%q is not of this machine alone: metrics are not protected, so write the path of a socket, 127.0.0.1:%d or [::1]:%[2]d",
			s, at.Port())
	case at.Port() == 0:
		return fmt.Errorf("%q has no port", s)
	}
	*a = Address(s)
	return nil
}

// network is that of package net.
func (a Address) network() string {
	if strings.HasPrefix(string(a), "/") {
		return "unix"
	}
	return "tcp"
}

// Textfile is the path of a file for the node exporter's textfile collector.
type Textfile string

// UnmarshalText takes no path that the collector would pass over.
func (f *Textfile) UnmarshalText(text []byte) error {
	s := string(text)
	if err := checkPath(s); err != nil {
		return err
	}
	if !strings.HasSuffix(s, ".prom") {
		return fmt.Errorf("the node exporter reads no %q: its files end in .prom", s)
	}
	*f = Textfile(host.CleanPath(s))
	return nil
}

// checkPath leaves it to the decoder to name the key.
func checkPath(s string) error {
	err := host.CheckPath("", s)
	var wrong *resource.FieldError
	if errors.As(err, &wrong) {
		return errors.New(wrong.Problem)
	}
	return err
}
