package health

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/host"
)

const (
	// bodyRead is how much of an answer, or of a file, is read.
	bodyRead = 1 << 20
	// said is how much of what a command printed is told.
	said = 200
)

func (p *Prober) http(ctx context.Context, probe catalog.Probe) error {
	config := &tls.Config{
		ServerName:         probe.ServerName,
		InsecureSkipVerify: probe.Insecure, //nolint:gosec // it is asked for in Git
	}
	if probe.CAFile != "" {
		pem, err := p.host.ReadFile(probe.CAFile, bodyRead)
		if err != nil {
			return err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("%s holds no certificate", probe.CAFile)
		}
	}
	// No proxy and no connection of before: it is this host that is looked at.
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // to look at where it leads is another probe
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, probe.HTTP, nil)
	if err != nil {
		return err
	}
	req.Host = probe.ServerName
	req.Header.Set("User-Agent", "trued")
	res, err := client.Do(req)
	if failed := (*url.Error)(nil); errors.As(err, &failed) {
		return failed.Err // the URL is known, and may hold more than is to be told
	}
	if err != nil {
		return err
	}
	defer res.Body.Close()
	switch {
	case probe.Status != 0 && res.StatusCode != probe.Status:
		return fmt.Errorf("status is %d and not %d", res.StatusCode, probe.Status)
	case probe.Status == 0 && (res.StatusCode < 200 || res.StatusCode > 299):
		return fmt.Errorf("status is %d", res.StatusCode)
	case probe.Contains == "":
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, bodyRead))
	if err != nil {
		return fmt.Errorf("cannot read the answer: %w", err)
	}
	return contains(body, probe.Contains)
}

func contains(data []byte, want string) error {
	if !bytes.Contains(data, []byte(want)) {
		return fmt.Errorf("%q is not in it", want)
	}
	return nil
}

func (p *Prober) tcp(ctx context.Context, probe catalog.Probe) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", probe.TCP)
	if err != nil {
		return err
	}
	return conn.Close()
}

// unit returns when the unit was started, and how often it was since.
func (p *Prober) unit(ctx context.Context, probe catalog.Probe) (string, error) {
	d, err := p.host.Systemd().Unit(ctx, probe.Unit)
	if err != nil {
		return "", err
	}
	if d.Active != "active" {
		why := cmp.Or(d.Exit, d.Result)
		if why == "success" || why == "" {
			return "", fmt.Errorf("it is %s (%s)", d.Active, d.Sub)
		}
		return "", fmt.Errorf("it is %s (%s): %s", d.Active, d.Sub, why)
	}
	return fmt.Sprint(d.Began, d.Restarts), nil
}

func (p *Prober) file(probe catalog.Probe) error {
	_, err := p.host.Lstat(probe.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("it is not there")
	case err != nil:
		return err
	case probe.Contains == "":
		return nil
	}
	data, err := p.host.ReadFile(probe.File, bodyRead)
	if err != nil {
		return err
	}
	return contains(data, probe.Contains)
}

func (p *Prober) command(ctx context.Context, probe catalog.Probe) error {
	args, err := host.SplitCommand(probe.Command)
	if err != nil {
		return err
	}
	out, err := p.host.Run(ctx, host.Command{Args: args, User: probe.As})
	var failed *host.CommandError
	switch {
	case errors.As(err, &failed):
		return fmt.Errorf("%w: %s", failed.Err, lastLine(failed.Output))
	case err != nil:
		return err
	case probe.Contains == "":
		return nil
	}
	return contains([]byte(out.Text), probe.Contains)
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	s = s[strings.LastIndexByte(s, '\n')+1:]
	return s[max(0, len(s)-said):]
}
