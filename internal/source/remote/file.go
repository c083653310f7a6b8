package remote

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	// chunk is how much of a file goes over the pipe in one frame.
	chunk = 256 << 10
	// A server that sends fewer bytes a second than this, over a whole span of
	// Limits.Idle, is as good as silent.
	slowest = 256
)

// serveFile is the child's side of Client.File.
func serveFile(ctx context.Context, c *wire, req Request) error {
	u, err := url.Parse(req.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return failf(KindUnsupported, "URL cannot be downloaded from: write http://host/path or https://host/path")
	}
	t, err := dialHTTP(req, u)
	if err != nil {
		return err
	}
	defer t.close()
	resp, err := t.file(ctx, u)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := t.pass(c, resp.Body); err != nil {
		return err
	}
	return c.send(frameEnd, struct{}{})
}

// file asks for the URL.
func (t *httpTransport) file(ctx context.Context, u *url.URL) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, failf(KindNotFound, "URL is malformed")
	}
	req.Header.Set("User-Agent", t.req.Agent)
	// The checksum is that of the file, so it must come as it is.
	req.Header.Set("Accept-Encoding", "identity")
	t.authorize(req)
	resp, err := t.client.Do(req)
	if err != nil {
		return nil, t.explain(err)
	}
	if err := t.judgeFile(resp); err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

func (t *httpTransport) judgeFile(resp *http.Response) error {
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		hint := "give a token_file"
		if t.req.Token != "" {
			hint = "check token_file and username"
		}
		return failf(KindDenied, "server answered %s: %s", resp.Status, hint)
	case code == http.StatusProxyAuthRequired:
		return failf(KindDenied, "proxy answered %s: check its user and password", resp.Status)
	case code == http.StatusNotFound, code == http.StatusGone:
		return failf(KindNotFound, "server answered %s", resp.Status)
	case code != http.StatusOK:
		return failf(KindUnreachable, "server answered %s", resp.Status)
	case resp.ContentLength > t.req.Limits.Object:
		return failf(KindLimit, "file has %d bytes, more than the %d that are allowed", resp.ContentLength, t.req.Limits.Object)
	}
	return nil
}

// pass hands a file on as it comes.
func (t *httpTransport) pass(c *wire, body io.Reader) error {
	idle := t.req.Limits.Idle
	buf := make([]byte, chunk)
	var total, since int64
	began := time.Now()
	for {
		n, err := body.Read(buf)
		total, since = total+int64(n), since+int64(n)
		if total > t.req.Limits.Object {
			return failf(KindLimit, "file has more than the %d bytes that are allowed", t.req.Limits.Object)
		}
		if n > 0 {
			if err := c.sendRaw(frameChunk, buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return failf(KindUnreachable, "server cut the connection after %d bytes", total)
		case err != nil:
			return t.n.broken("file did not come whole", err)
		}
		if past := time.Since(began); past > idle {
			if float64(since) < slowest*past.Seconds() {
				return failf(KindTimeout, "server sent no more than %d bytes in %s", since, past.Round(time.Second))
			}
			began, since = time.Now(), 0
		}
	}
}
