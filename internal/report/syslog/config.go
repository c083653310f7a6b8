package syslog

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/leodido/go-syslog/v4/common"

	"trued.dev/trued/internal/report/endpoint"
)

// Config is where events go.
type Config struct {
	Address      Address  `yaml:"address" doc:"unix:///dev/log, udp://HOST:514, tcp://HOST:PORT or tls://HOST:6514"`
	Facility     Facility `yaml:"facility" doc:"a word such as daemon or local3; daemon"`
	endpoint.TLS `yaml:",inline"`
}

// UnmarshalText takes the address alone.
func (c *Config) UnmarshalText(text []byte) error { return c.Address.UnmarshalText(text) }

// Validate reports what does not go together.
func (c Config) Validate() error {
	if c.Address == "" {
		return errors.New("syslog needs an address")
	}
	if c.TLS != (endpoint.TLS{}) && !strings.HasPrefix(string(c.Address), "tls:") {
		return errors.New("certificates are for an address that begins with tls://")
	}
	return c.TLS.Validate()
}

// An Address is a URL of a transport and a place.
type Address string

// UnmarshalText takes what can be dialled.
func (a *Address) UnmarshalText(text []byte) error {
	u, err := url.Parse(string(text))
	if err != nil {
		return fmt.Errorf("%q is not an address: write udp://, tcp:// or tls:// with a host and a port, or unix:///dev/log", text)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("an address is a transport, a host and a port, and nothing else")
	}
	switch u.Scheme {
	case "unix":
		if u.Host != "" || !strings.HasPrefix(u.Path, "/") {
			return fmt.Errorf("%q names no absolute path: write unix:///dev/log", text)
		}
	case "udp", "tcp", "tls":
		if u.Hostname() == "" || strings.Trim(u.Path, "/") != "" {
			return fmt.Errorf("%q names no host: write %s://logs.example.com:6514", text, u.Scheme)
		}
		if u.Port() == "" {
			port := map[string]string{"udp": "514", "tcp": "", "tls": "6514"}[u.Scheme]
			if port == "" {
				return fmt.Errorf("%q names no port; syslog over TCP has no usual one", text)
			}
			u.Host = net.JoinHostPort(u.Hostname(), port)
		}
		u.Path = ""
	default:
		return fmt.Errorf("%q has no transport that syslog knows: write unix://, udp://, tcp:// or tls://", text)
	}
	*a = Address(u.String())
	return nil
}

// parts are the transport, and what is dialled.
func (a Address) parts() (scheme, place string) {
	scheme, place, _ = strings.Cut(string(a), "://")
	return scheme, place
}

// A Facility is what kind of program a message comes from.
type Facility uint8

// daemon is the facility of system daemons.
const daemon Facility = 3

// UnmarshalText takes a word of RFC 5427.
func (f *Facility) UnmarshalText(text []byte) error {
	for code, word := range common.FacilityKeywords {
		if word == string(text) {
			*f = Facility(code)
			return nil
		}
	}
	var words []string
	for _, w := range common.FacilityKeywords {
		words = append(words, w)
	}
	slices.Sort(words)
	return fmt.Errorf("unknown facility %q: write one of %s", text, strings.Join(words, ", "))
}
