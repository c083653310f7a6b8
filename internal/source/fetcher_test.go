package source_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	machine "trued.dev/trued/internal/host"
	"trued.dev/trued/internal/source"
)

func TestAFileIsFetchedThroughTheProxyOfTheEnvironmentAndByTheAuthorityThatIsNamed(t *testing.T) {
	a := newAuthority(t)
	served := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("a file")) })
	w := &wall{t: t, servers: map[string]string{farAway + ":443": a.serve(served, nil).Listener.Addr().String()}}
	proxy := httptest.NewServer(w)
	t.Cleanup(proxy.Close)
	for _, key := range []string{"http_proxy", "https_proxy", "NO_PROXY", "no_proxy", "HTTP_PROXY"} {
		t.Setenv(key, "")
	}
	t.Setenv("HTTPS_PROXY", as("http", proxyPassword, proxy.Listener.Addr()))
	ca, err := os.ReadFile(a.file)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "fetch")
	f := source.NewFetcher(dir, []string{os.Args[0], "fetch-child"})
	ask := machine.RemoteFile{URL: "https://" + farAway + "/x", Limit: 1000, Idle: time.Minute}
	var got bytes.Buffer
	if err := f.File(context.Background(), ask, &got); err == nil || !strings.Contains(err.Error(), "authority that is not known here") {
		t.Errorf("without its authority: %v", err)
	}
	ask.Access.CA = ca
	if err := f.File(context.Background(), ask, &got); err != nil || got.String() != "a file" {
		t.Errorf("came %q, error %v", got.String(), err)
	}
	if calls := strings.Join(w.calls(), " "); !strings.HasPrefix(calls, farAway+":443") {
		t.Errorf("the proxy was asked for %q", calls)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, error %v", left, err)
	}
}
