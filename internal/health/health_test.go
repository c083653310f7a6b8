package health_test

import (
	"context"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/health"
	"trued.dev/trued/internal/host"
)

// patient is a probe with time enough on any machine.
func patient(p catalog.Probe) catalog.Probe {
	p.Name, p.Within, p.Every = "it", time.Minute, time.Millisecond
	p.Times = max(p.Times, 1)
	return p
}

func prover(t *testing.T) (*health.Prober, string) {
	t.Helper()
	root := t.TempDir()
	return health.New(host.New(root, host.Options{})), root
}

func prove(t *testing.T, p catalog.Probe, until time.Time) string {
	t.Helper()
	prober, _ := prover(t)
	failures := prober.Prove(t.Context(), []catalog.Probe{p}, nil, until)
	if len(failures) == 0 {
		return ""
	}
	return failures[0].String()
}

func TestAProbeSaysWhatIsWrong(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		if r.URL.Path == "/elsewhere" {
			http.Redirect(w, r, "/", http.StatusFound)
		}
		_, _ = io.WriteString(w, "hello from "+r.Host)
	}))
	defer web.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) }))
	defer secure.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	prober, root := prover(t)
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("ready", "yes, ready\n")
	put("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})))
	put("empty.pem", "")

	for name, c := range map[string]struct {
		probe catalog.Probe
		says  string // empty: it is good
	}{
		"an answer":                       {catalog.Probe{HTTP: web.URL}, ""},
		"a status":                        {catalog.Probe{HTTP: web.URL + "/broken"}, "status is 503"},
		"another status":                  {catalog.Probe{HTTP: web.URL, Status: 204}, "status is 200 and not 204"},
		"a bad status that is wanted":     {catalog.Probe{HTTP: web.URL + "/broken", Status: 503}, ""},
		"a redirection":                   {catalog.Probe{HTTP: web.URL + "/elsewhere"}, "status is 302"},
		"a body":                          {catalog.Probe{HTTP: web.URL, Contains: "hello"}, ""},
		"another body":                    {catalog.Probe{HTTP: web.URL, Contains: "goodbye"}, `"goodbye" is not in it`},
		"a site by its name":              {catalog.Probe{HTTP: web.URL, ServerName: "example.com", Contains: "from example.com"}, ""},
		"a server that is not there":      {catalog.Probe{HTTP: "http://" + closed.Addr().String()}, "connection refused"},
		"a certificate of nobody":         {catalog.Probe{HTTP: secure.URL}, "certificate"},
		"a certificate that is known":     {catalog.Probe{HTTP: secure.URL, CAFile: "/ca.pem"}, ""},
		"its name":                        {catalog.Probe{HTTP: secure.URL, CAFile: "/ca.pem", ServerName: "example.com"}, ""},
		"a certificate of somebody else":  {catalog.Probe{HTTP: secure.URL, CAFile: "/ca.pem", ServerName: "example.org"}, "example.org"},
		"a certificate that nobody looks": {catalog.Probe{HTTP: secure.URL, Insecure: true}, ""},
		"no certificates":                 {catalog.Probe{HTTP: secure.URL, CAFile: "/empty.pem"}, "holds no certificate"},
		"a port":                          {catalog.Probe{TCP: listener.Addr().String()}, ""},
		"a closed port":                   {catalog.Probe{TCP: closed.Addr().String()}, "connection refused"},
		"a file":                          {catalog.Probe{File: "/ready", Contains: "ready"}, ""},
		"another file":                    {catalog.Probe{File: "/ready", Contains: "steady"}, `"steady" is not in it`},
		"no file":                         {catalog.Probe{File: "/none/ready"}, "it is not there"},
		"a command":                       {catalog.Probe{Command: "sh -c 'echo fine'", Contains: "fine"}, ""},
		"a command that fails":            {catalog.Probe{Command: "sh -c 'echo one; echo no space; exit 3'"}, "exit status 3: no space"},
		"a command that says no":          {catalog.Probe{Command: "echo bad", Contains: "fine"}, `"fine" is not in it`},
		"no command":                      {catalog.Probe{Command: "/none/cmd"}, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			p := patient(c.probe)
			until := time.Now().Add(time.Minute)
			if c.says != "" {
				until = time.Now() // one look
			}
			got := ""
			if f := prober.Prove(t.Context(), []catalog.Probe{p}, nil, until); len(f) > 0 {
				got = f[0].String()
			}
			if (got == "") != (c.says == "") || !strings.Contains(got, c.says) || got != "" && !strings.HasPrefix(got, "it: ") {
				t.Errorf("it says %q, want %q", got, c.says)
			}
			if strings.Contains(got, "http://") || strings.Contains(got, "https://") {
				t.Errorf("%q tells the URL", got)
			}
		})
	}
}

func TestWhatBecomesGoodInTimeIsGood(t *testing.T) {
	var looks atomic.Int32
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if looks.Add(1) < 5 {
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	defer web.Close()
	if got := prove(t, patient(catalog.Probe{HTTP: web.URL, Times: 3}), time.Now().Add(time.Minute)); got != "" {
		t.Error(got)
	}
	if n := looks.Load(); n != 7 {
		t.Errorf("%d looks, want 4 that are bad and 3 that are good", n)
	}
}

func TestWhatIsGoodNowAndThenIsNotGood(t *testing.T) {
	var looks atomic.Int32
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if looks.Add(1)%3 == 0 {
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	defer web.Close()
	p := patient(catalog.Probe{HTTP: web.URL, Times: 3})
	p.Within = 300 * time.Millisecond
	if got := prove(t, p, time.Now().Add(time.Minute)); !strings.Contains(got, "502") && !strings.Contains(got, "in a row") {
		t.Errorf("it says %q", got)
	}
}

func TestTheWaitEndsWithWhoeverWaits(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	prober, _ := prover(t)
	p := patient(catalog.Probe{File: "/none"})
	p.Every = time.Minute
	time.AfterFunc(10*time.Millisecond, stop)
	if f := prober.Prove(ctx, []catalog.Probe{p}, nil, time.Now().Add(time.Hour)); len(f) != 1 {
		t.Errorf("%v", f)
	}
}

// When it is decided that the host is not healthy, nobody waits for the rest.
func TestWhatCannotBecomeGoodEndsTheWaitForAllElse(t *testing.T) {
	prober, _ := prover(t)
	bad, slow, fine := patient(catalog.Probe{File: "/none"}), patient(catalog.Probe{File: "/late"}), patient(catalog.Probe{Command: "true", Times: 1000})
	bad.Name, slow.Name, fine.Name = "bad", "slow", "fine"
	bad.Within, slow.Within, fine.Within = time.Millisecond, 24*time.Hour, 24*time.Hour
	fine.Every = time.Hour
	failures := prober.Prove(t.Context(), []catalog.Probe{slow, bad, fine}, nil, time.Now().Add(24*time.Hour))
	for _, f := range failures {
		if f.Probe == "fine" {
			t.Errorf("%s", f)
		}
	}
	if len(failures) == 0 {
		t.Error("all is good")
	}
}

// Where nothing answered before, nothing is missed.
func TestAHostWithoutANetworkMissesNothing(t *testing.T) {
	prober, _ := prover(t)
	prober.Reach(t.Context(), func(what string) { t.Errorf("a tree without a route reaches the %s", what) })
	if f := prober.Prove(t.Context(), nil, nil, time.Now()); len(f) != 0 {
		t.Errorf("%v", f)
	}
	if f := prober.Prove(t.Context(), nil, []string{"gateway", "resolver"}, time.Now()); len(f) != 2 {
		t.Errorf("what answered before is missed as %v", f)
	}
}
