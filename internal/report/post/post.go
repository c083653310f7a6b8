// Package post carries batches of events to a receiver over HTTP, and reads what
// an answer means for them.
//
// It knows no form of events: how a batch is written is the business of the sink
// that uses it.
package post

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/report/endpoint"
)

// Config is what all receivers over HTTP have. Its keys are part of a sink's own.
type Config struct {
	URL          URL    `yaml:"url" doc:"https://HOST/PATH"`
	Gzip         *bool  `yaml:"gzip" doc:"compress what is sent; true"`
	TokenFile    string `yaml:"token_file" doc:"bearer token, readable by its owner alone"`
	endpoint.TLS `yaml:",inline"`
}

// UnmarshalText takes the URL alone.
func (c *Config) UnmarshalText(text []byte) error { return c.URL.UnmarshalText(text) }

// Validate reports what does not go together.
func (c Config) Validate() error {
	plain := strings.HasPrefix(string(c.URL), "http://")
	switch {
	case c.URL == "":
		return errors.New("there is no url")
	case plain && c.TLS != (endpoint.TLS{}):
		return errors.New("certificates are for a URL that begins with https://")
	case plain && c.TokenFile != "" && !c.URL.local():
		return errors.New("a token is sent over https:// only")
	}
	return c.TLS.Validate()
}

// A URL is where a batch goes.
type URL string

// UnmarshalText takes a URL of HTTP without anything that could be a secret.
func (u *URL) UnmarshalText(text []byte) error {
	parsed, err := url.Parse(string(text))
	switch {
	case err != nil:
		return fmt.Errorf("cannot read the URL %q", report.PublicURL(string(text)))
	case parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Hostname() == "":
		return fmt.Errorf("%q is no URL of HTTP: write https://logs.example.com/events", report.PublicURL(string(text)))
	case parsed.User != nil || parsed.RawQuery != "" || parsed.Fragment != "":
		return errors.New("a URL has no user, password, query or fragment here: give a token by token_file")
	}
	*u = URL(text)
	return nil
}

func (u URL) local() bool {
	parsed, err := url.Parse(string(u))
	if err != nil {
		return false
	}
	ip := net.ParseIP(parsed.Hostname())
	return parsed.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// A Client sends to one receiver. Its connection lasts as long as a delivery
// keeps it busy.
type Client struct {
	config Config
	http   http.Client
}

// idle is how long a connection waits for the next batch.
const idle = 10 * time.Second

// New returns a client. Certificates are read for each connection, so that new
// ones count at once.
func New(c Config) *Client {
	dialer := &net.Dialer{}
	return &Client{config: c, http: http.Client{
		// A receiver that sends us elsewhere would get what is meant for another.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:              http.ProxyFromEnvironment,
			DialContext:        dialer.DialContext,
			MaxIdleConns:       1,
			IdleConnTimeout:    idle,
			DisableCompression: true,
			DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				host, _, err := net.SplitHostPort(addr)
				if err != nil {
					return nil, err
				}
				own, err := c.Config(host)
				if err != nil {
					return nil, err
				}
				return (&tls.Dialer{NetDialer: dialer, Config: own}).DialContext(ctx, network, addr)
			},
		},
	}}
}

// URL is where batches go.
func (c *Client) URL() string { return string(c.config.URL) }

// Batch sends events in one request, or in several of halves when one is refused,
// so that it is known in the end which event it was. The form makes the request's
// body and headers, and may refuse; judge, which may be nil, reads the answer to one that was
// taken.
func (c *Client) Batch(ctx context.Context, events []report.Stored, form Form, judge Judge) (int, error) {
	err := c.post(ctx, events, form, judge)
	var refused *report.RefusedError
	var partial *report.PartialError
	switch {
	case errors.As(err, &partial):
		partial.Lost = min(partial.Lost, uint64(len(events))) // whatever it says
		return len(events), err
	case err == nil:
		return len(events), nil
	case !errors.As(err, &refused) || len(events) == 1:
		return 0, err
	}
	half := len(events) / 2
	n, err := c.Batch(ctx, events[:half], form, judge)
	if err != nil {
		return n, err
	}
	m, err := c.Batch(ctx, events[half:], form, judge)
	return half + m, err
}

// A Form writes a batch.
type Form func(events []report.Stored) (body []byte, header http.Header, err error)

// A Judge says what an answer of success means.
type Judge func(body []byte) error

const (
	// mostAnswer is as much of an answer as is looked at.
	mostAnswer = 64 << 10
	mostQuoted = 200
)

func (c *Client) post(ctx context.Context, events []report.Stored, form Form, judge Judge) error {
	body, header, err := form(events)
	if err != nil {
		return err
	}
	req, err := c.request(ctx, body, header)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("cannot report: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, mostAnswer))
	if err := outcome(resp, answer); err != nil {
		return fmt.Errorf("cannot report to %s: %w", c.config.URL, err)
	}
	if err != nil {
		return fmt.Errorf("cannot read the answer of %s: %w", c.config.URL, err)
	}
	if judge != nil {
		return judge(answer)
	}
	return nil
}

func (c *Client) request(ctx context.Context, body []byte, header http.Header) (*http.Request, error) {
	if c.config.Gzip == nil || *c.config.Gzip {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(body); err != nil {
			return nil, err
		}
		if err := z.Close(); err != nil {
			return nil, err
		}
		body = b.Bytes()
		header.Set("Content-Encoding", "gzip")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, string(c.config.URL), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = header
	req.Header.Set("User-Agent", "trued")
	if c.config.TokenFile != "" {
		token, err := endpoint.Secret(c.config.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("token_file: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+string(token))
	}
	return req, nil
}

// outcome reads what a status means for the batch: nil when it was taken.
func outcome(resp *http.Response, answer []byte) error {
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	err := fmt.Errorf("it answers %s", resp.Status)
	if quoted := strings.TrimSpace(string(answer[:min(len(answer), mostQuoted)])); quoted != "" && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		err = fmt.Errorf("%w: %q", err, quoted)
	}
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return &report.RefusedError{Err: err}
	}
	if after := retryAfter(resp.Header.Get("Retry-After"), time.Now()); after > 0 {
		return &report.BusyError{After: after, Err: err}
	}
	return err
}

// retryAfter is how long a receiver asks to be left alone: in seconds, or until a
// date.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(s); err == nil && n > 0 {
		return time.Duration(min(n, int(24*time.Hour/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return at.Sub(now)
	}
	return 0
}
