package cacertificate

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

// TestOnHost runs what follows as root of a booted host.
func TestOnHost(t *testing.T) {
	if !hosttest.Inside(t, hosttest.Options{Name: "cacertificate"}, "update-ca-certificates --fresh") {
		return
	}
	a, b := newAuthority(t, nil), newAuthority(t, nil)
	for name, had := range map[string]string{"a new one": "", "another was there": b.text} {
		t.Run(name, func(t *testing.T) {
			place(t, had)
			h := running(t)
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource { return filled(m, a.text) },
				Dirs:     []string{"/usr/local/share/ca-certificates", "/etc/ssl/certs"},
			})
			place(t, "")
		})
	}
	t.Run("one to go", func(t *testing.T) {
		place(t, b.text)
		h := running(t)
		resourcetest.Run(t, resourcetest.Case{
			Module: func() resource.Module { return New(h) },
			Resource: func(m resource.Module) resource.Resource {
				r := filled(m, "")
				r.Content.Content, r.State = nil, "absent"
				return r
			},
			Dirs: []string{"/usr/local/share/ca-certificates", "/etc/ssl/certs"},
		})
		place(t, "")
	})
	t.Run("what it signed is trusted while it is declared", trusted)
	t.Run("a bundle that lost it is mended", bundleLostIt)
	t.Run("one that the system brings stays", systemBringsIt)
	t.Run("a run that was cut off goes on", cutOff)
	t.Run("a machine without the tool says so", withoutTool)
}

func running(t *testing.T) *host.Host {
	t.Helper()
	return host.New("/", host.Options{Backups: host.OpenBackups(t.TempDir())})
}

// place makes the file, or removes it, and the bundle.
func place(t *testing.T, content string) {
	t.Helper()
	const at = "/usr/local/share/ca-certificates/example.crt"
	err := os.RemoveAll(at)
	if content != "" {
		err = errors.Join(err, os.WriteFile(at, []byte(content), 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	sh(t, "update-ca-certificates --fresh")
}

func sh(t *testing.T, line string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", line).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
	return string(out)
}

// serve returns the address of a server on the host's loopback interface, with a
// certificate that the authority signed.
func (a authorityKey) serve(t *testing.T) string {
	t.Helper()
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, a.cert, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("trusted")) }))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: a.key}}, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

// ask asks two programs: one that reads the bundle, one that goes by hashes.
func ask(t *testing.T, a authorityKey, url string) (byBundle, byHash bool) {
	t.Helper()
	out, err := exec.Command("curl", "-sS", "-m", "60", url).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "certificate") {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command("openssl", "verify", "-no-CAfile", "-CApath", "/etc/ssl/certs")
	cmd.Stdin = strings.NewReader(a.text)
	return string(out) == "trusted", cmd.Run() == nil
}

func trusted(t *testing.T) {
	h := running(t)
	a, b := newAuthority(t, nil), newAuthority(t, nil)
	url, other := a.serve(t), b.serve(t)
	e, m := &resourcetest.Engine{}, New(h)
	expect := func(what string, wantA, wantB bool) {
		t.Helper()
		for _, c := range []struct {
			authorityKey
			url  string
			want bool
		}{{a, url, wantA}, {b, other, wantB}} {
			if byBundle, byHash := ask(t, c.authorityKey, c.url); byBundle != c.want || byHash != c.want {
				t.Errorf("%s: by the bundle %v, by its hash %v, want %v", what, byBundle, byHash, c.want)
			}
		}
	}
	converge := func(r *Resource) {
		t.Helper()
		if err := errors.Join(e.Load(r), e.Converge(t.Context(), m, r)); err != nil {
			t.Fatal(err)
		}
	}
	expect("before", false, false)
	converge(filled(m, a.text))
	expect("declared", true, false)
	r := filled(m, b.text)
	converge(r)
	expect("replaced under its name", false, true)
	gone, err := e.Absent(m, r)
	if err == nil {
		err = e.Leave(t.Context(), m, r, gone)
	}
	if err != nil {
		t.Fatal(err)
	}
	expect("after it left", false, false)
}

func bundleLostIt(t *testing.T) {
	h := running(t)
	a := newAuthority(t, nil)
	e, m := &resourcetest.Engine{}, New(h)
	r := filled(m, a.text)
	if err := errors.Join(e.Load(r), e.Converge(t.Context(), m, r)); err != nil {
		t.Fatal(err)
	}
	sh(t, "head -c 10000 /etc/ssl/certs/ca-certificates.crt >/srv/short; cat /srv/short >/etc/ssl/certs/ca-certificates.crt")
	found, err := e.Check(t.Context(), m, r)
	if err != nil || len(found.Diff) != 1 || found.Diff[0].Field != fieldTrusted {
		t.Errorf("found %+v, error %v", found, err)
	}
	if err := e.Converge(t.Context(), m, r); err != nil {
		t.Fatal(err)
	}
	if found, err := e.Check(t.Context(), m, r); err != nil || !found.InOrder() {
		t.Errorf("found %+v, error %v", found, err)
	}
	place(t, "")
}

func systemBringsIt(t *testing.T) {
	h := running(t)
	e, m := &resourcetest.Engine{}, New(h)
	file := strings.TrimSpace(sh(t, "ls /usr/share/ca-certificates/mozilla/*.crt | head -n 1"))
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r := filled(m, string(text))
	if err := errors.Join(e.Load(r), e.Converge(t.Context(), m, r)); err != nil {
		t.Fatal(err)
	}
	gone, err := e.Absent(m, r)
	if err == nil {
		err = e.Leave(t.Context(), m, r, gone)
	}
	if err != nil {
		t.Fatal(err)
	}
	if found, err := e.CheckAbsent(t.Context(), m, r, gone); err != nil || !found.InOrder() {
		t.Errorf("found %+v, error %v", found, err)
	}
	b, err := r.store.bundle()
	if err != nil || !b.has(digest(r.loaded)) {
		t.Errorf("the system's own is gone, error %v", err)
	}
}

// A run that was cut off between the file and the bundle owes the bundle.
func cutOff(t *testing.T) {
	h := running(t)
	a := newAuthority(t, nil)
	place(t, a.text)
	e, m := &resourcetest.Engine{}, New(h)
	r := filled(m, "")
	r.Content.Content, r.State = nil, "absent"
	found, err := e.Check(t.Context(), m, r)
	if err != nil || len(found.Owes) != 1 {
		t.Fatalf("found %+v, error %v", found, err)
	}
	if err := os.Remove(r.store.file("example")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.React(t.Context(), e.View(m, r), found.Owes); err != nil {
		t.Fatal(err)
	}
	if b, err := r.store.bundle(); err != nil || b.has(digest(a.cert)) {
		t.Errorf("the bundle holds it still, error %v", err)
	}
}

func withoutTool(t *testing.T) {
	sh(t, "mv /usr/sbin/update-ca-certificates /srv/tool")
	defer sh(t, "mv /srv/tool /usr/sbin/update-ca-certificates")
	e, m := &resourcetest.Engine{}, New(running(t))
	r := filled(m, newAuthority(t, nil).text)
	if err := e.Load(r); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Check(t.Context(), m, r); err == nil || !strings.Contains(err.Error(), "declare the package ca-certificates") {
		t.Errorf("returned %v", err)
	}
	e.Owner = func(c resource.Claim) (resource.Address, bool) {
		return resource.Address{Kind: "package", Name: c.Name}, c == r.store.brings()
	}
	if found, err := e.Check(t.Context(), m, r); err != nil || found.Unknown == "" {
		t.Errorf("found %+v, error %v", found, err)
	}
}
