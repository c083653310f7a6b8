package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// httpTransport is Git's smart protocol over HTTP, version 0: the list of
// references is one round trip.
type httpTransport struct {
	req    Request
	n      *network
	client *http.Client
	// base is where the repository is, after redirections.
	base string
	host string
}

const service = "git-upload-pack"

func dialHTTP(req Request, u *url.URL) (*httpTransport, error) {
	n := newNetwork(req.Limits)
	n.named = !req.File && !req.Nameless
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(req.CA) > 0 {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(req.CA) {
			return nil, failf(KindHostKey, "ca_file holds no certificate in PEM form")
		}
	}
	if len(req.ClientCert) > 0 {
		pair, err := tls.X509KeyPair(req.ClientCert, req.ClientKey)
		if err != nil {
			return nil, failf(KindDenied, "client certificate cannot be used: %v", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	g, err := gatewayOf(req)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return n.dialThrough(ctx, g, address)
		},
		TLSClientConfig: conf, MaxResponseHeaderBytes: 1 << 16,
		TLSHandshakeTimeout: req.Limits.Idle, ResponseHeaderTimeout: req.Limits.Idle,
	}
	if g.url != nil && g.url.Scheme == "http" && u.Scheme == "http" {
		// Many proxies make tunnels for encrypted connections alone.
		transport.Proxy, transport.DialContext = http.ProxyURL(g.url), n.dial
	}
	t := &httpTransport{req: req, n: n, base: strings.TrimSuffix(u.String(), "/"), host: u.Host}
	t.client = &http.Client{Transport: transport, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		if len(via) > 5 {
			return errors.New("too many redirections")
		}
		if via[0].URL.Scheme == "https" && next.URL.Scheme != "https" {
			return fmt.Errorf("server redirects to %s, which is not encrypted", next.URL.Host)
		}
		if next.URL.Host != t.host {
			// net/http would send it to another port of the same machine.
			next.Header.Del("Authorization")
		}
		return nil
	}}
	return t, nil
}

func (t *httpTransport) close() { t.client.CloseIdleConnections() }

func (t *httpTransport) do(req *http.Request, wantType string) (*http.Response, error) {
	req.Header.Set("User-Agent", "git/"+t.req.Agent)
	t.authorize(req)
	resp, err := t.client.Do(req)
	if err != nil {
		return nil, t.explain(err)
	}
	if err := t.judge(resp, wantType); err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// authorize shows the token. Another host that the server redirects to is told
// no secret.
func (t *httpTransport) authorize(req *http.Request) {
	switch {
	case t.req.Token == "" || req.URL.Host != t.host:
	case t.req.Username != "":
		req.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(t.req.Username+":"+t.req.Token)))
	default:
		req.Header.Set("Authorization", "Bearer "+t.req.Token)
	}
}

func (t *httpTransport) explain(err error) error {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		return failf(KindHostKey, "server's certificate is signed by an authority that is not known here: name its certificate as ca_file (%s)", plainly(err))
	case errors.As(err, &name), errors.As(err, &invalid):
		return failf(KindHostKey, "server's certificate is not accepted: %s", plainly(err))
	default:
		return t.n.broken("server cannot be reached", err)
	}
}

func (t *httpTransport) judge(resp *http.Response, wantType string) error {
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		hint := "give a token_file"
		if t.req.Token != "" {
			hint = "check token_file and username"
		}
		return failf(KindDenied, "server answered %s: %s", resp.Status, hint)
	case code == http.StatusProxyAuthRequired:
		return failf(KindDenied, "proxy answered %s: check its user and password in `proxy`", resp.Status)
	case code == http.StatusNotFound, code == http.StatusGone:
		return failf(KindNotFound, "server answered %s: check the URL, and whether the token may see the repository", resp.Status)
	case code != http.StatusOK:
		return failf(KindUnreachable, "server answered %s", resp.Status)
	}
	if got := resp.Header.Get("Content-Type"); got != wantType {
		return failf(KindNotFound, "server does not speak Git's smart protocol there (it sent %q): check the URL", got)
	}
	return nil
}

func (t *httpTransport) advertise(ctx context.Context) (io.ReadCloser, error) {
	const tail = "/info/refs?service=" + service
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.base+tail, nil)
	if err != nil {
		return nil, failf(KindNotFound, "URL is malformed")
	}
	resp, err := t.do(req, "application/x-"+service+"-advertisement")
	if err != nil {
		return nil, err
	}
	t.base = strings.TrimSuffix(resp.Request.URL.String(), tail)
	return resp.Body, nil
}

func (t *httpTransport) request(ctx context.Context, body []byte) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.base+"/"+service, bytes.NewReader(body))
	if err != nil {
		return nil, failf(KindNotFound, "URL is malformed")
	}
	req.Header.Set("Content-Type", "application/x-"+service+"-request")
	req.Header.Set("Accept", "application/x-"+service+"-result")
	resp, err := t.do(req, "application/x-"+service+"-result")
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

func (t *httpTransport) broken(doing string, err error) error { return t.n.broken(doing, err) }
