package cloudevents_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/report/cloudevents"
	"trued.dev/trued/internal/report/post"
	"trued.dev/trued/internal/report/reporttest"
	"trued.dev/trued/internal/report/sinktest"
)

func sink(url string, c cloudevents.Config) *cloudevents.Sink {
	c.URL = post.URL(url)
	return cloudevents.New(c)
}

func TestConformance(t *testing.T) {
	certs := sinktest.NewCertificates(t)
	plain := false
	t.Run("batched", func(t *testing.T) {
		sinktest.Run(t, sinktest.Kind{
			Sink: func(_ *testing.T, addr string) report.Sink {
				return sink("http://"+addr+"/events", cloudevents.Config{})
			},
			Serve: sinktest.ServeCloudEvents, Answers: true,
		})
	})
	t.Run("structured, with certificates", func(t *testing.T) {
		sinktest.Run(t, sinktest.Kind{
			Sink: func(_ *testing.T, addr string) report.Sink {
				c := cloudevents.Config{Mode: cloudevents.Structured}
				c.TLS, c.Gzip = certs.Client, &plain
				return sink("https://"+addr+"/", c)
			},
			Serve: func(l net.Listener, r *sinktest.Receiver) {
				sinktest.ServeCloudEvents(tls.NewListener(l, certs.Server), r)
			},
			Answers: true,
		})
	})
}

func stored(t *testing.T) []report.Stored {
	t.Helper()
	var all []report.Stored
	for i, e := range reporttest.Story() {
		raw, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, report.Stored{Seq: uint64(i + 1), Event: raw})
	}
	return all
}

// A recorder keeps the requests that it answers with a status.
type recorder struct {
	status  int
	answer  func(body []byte) int
	headers []http.Header
	bodies  [][]byte
}

func (c *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	c.headers, c.bodies = append(c.headers, req.Header), append(c.bodies, body)
	if c.answer != nil {
		w.WriteHeader(c.answer(body))
		return
	}
	w.WriteHeader(c.status)
}

func secret(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text+"\n"), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEventsAreWholeSignedAndCarryTheToken(t *testing.T) {
	rec, plain := &recorder{status: 204}, false
	server := httptest.NewServer(rec)
	defer server.Close()
	c := cloudevents.Config{HMACKeyFile: secret(t, "key", 0o600)}
	c.TokenFile, c.Gzip = secret(t, "t0ken", 0o400), &plain
	events := stored(t)
	if n, err := sink(server.URL, c).Send(t.Context(), events); n != len(events) || err != nil {
		t.Fatalf("Send = %d, %v", n, err)
	}
	head, body := rec.headers[0], rec.bodies[0]
	mac := hmac.New(sha256.New, []byte("key"))
	mac.Write(body)
	if got := head.Get(cloudevents.SignatureHeader); got != "sha256="+hex.EncodeToString(mac.Sum(nil)) {
		t.Errorf("signature = %q", got)
	}
	if got := head.Get("Authorization"); got != "Bearer t0ken" {
		t.Errorf("authorization = %q", got)
	}
	req := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
	req.Header = head
	got, err := sinktest.CloudEvents(req)
	if err != nil || len(got) != len(events) {
		t.Fatalf("%d events, %v", len(got), err)
	}
	for i, e := range reporttest.Story() {
		at, err := time.Parse(time.RFC3339Nano, e.Time)
		g := got[i]
		if err != nil || g.ID() != e.ID || g.Type() != "dev.trued."+string(e.Type) || g.Subject() != e.Resource ||
			g.Source() != "urn:trued:host:"+e.HostID || !g.Time().Equal(at) || g.DataSchema() != report.SchemaID || g.Validate() != nil {
			t.Errorf("event %d is %s", i, g)
		}
		reporttest.Valid(t, g.Data())
	}
}

func TestWhatAnAnswerMeans(t *testing.T) {
	rec := &recorder{}
	server := httptest.NewServer(rec)
	defer server.Close()
	events := stored(t)
	poison := reporttest.Story()[7].ID
	for name, c := range map[string]struct {
		answer  func([]byte) int
		n       int
		refused bool
	}{
		"taken":         {func([]byte) int { return 200 }, len(events), false},
		"broken":        {func([]byte) int { return 500 }, 0, false},
		"not found":     {func([]byte) int { return 404 }, 0, false},
		"one too large": {func(b []byte) int { return map[bool]int{true: 413, false: 202}[bytes.Contains(b, []byte(poison))] }, 7, true},
	} {
		rec.answer = c.answer
		plain := false
		conf := cloudevents.Config{}
		conf.Gzip = &plain
		n, err := sink(server.URL, conf).Send(t.Context(), events)
		var refused *report.RefusedError
		if n != c.n || (err == nil) != (n == len(events)) || errors.As(err, &refused) != c.refused {
			t.Errorf("%s: Send = %d, %v", name, n, err)
		}
	}
}

func TestSecretsThatOthersCanReadAreNotUsed(t *testing.T) {
	rec := &recorder{status: 200}
	server := httptest.NewServer(rec)
	defer server.Close()
	open := secret(t, "s", 0o644)
	token, key := cloudevents.Config{}, cloudevents.Config{HMACKeyFile: open}
	token.TokenFile = open
	for _, c := range []cloudevents.Config{token, key} {
		n, err := sink(server.URL, c).Send(t.Context(), stored(t))
		var refused *report.RefusedError
		if n != 0 || err == nil || !strings.Contains(err.Error(), "can be read by others") || errors.As(err, &refused) {
			t.Errorf("Send = %d, %v", n, err)
		}
	}
	if len(rec.headers) != 0 {
		t.Error("something was sent")
	}
}
