package cacertificate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

// An authority is one that tests make.
type authorityKey struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	text string
}

func newAuthority(t *testing.T, change func(*x509.Certificate)) authorityKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "Example Root"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authorityKey{cert: parsed, key: key, text: string(pem.EncodeToMemory(&pem.Block{Type: certificate, Bytes: der}))}
}

func (a authorityKey) private(t *testing.T) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func filled(m resource.Module, content string) *Resource {
	r := m.New().(*Resource)
	r.Title = "example"
	r.Content.Content = &content
	return r
}

func newTree(t *testing.T, release string) (*host.Host, string) {
	t.Helper()
	root := t.TempDir()
	err := os.Mkdir(filepath.Join(root, "etc"), 0o755)
	if release != "" {
		err = errors.Join(err, os.WriteFile(filepath.Join(root, "etc/os-release"), []byte(release), 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	return host.New(root, host.Options{Backups: host.OpenBackups(t.TempDir())}), root
}

func TestCACertificateKeepsThePromisesOfAModule(t *testing.T) {
	a, b := newAuthority(t, nil), newAuthority(t, nil)
	for name, c := range map[string]struct {
		release, at string
		had         string
		fill        func(r *Resource)
		secret      string
	}{
		"nothing is known": {"", "/usr/local/share/ca-certificates", "", nil, ""},
		"of Debian":        {"ID=debian\n", "/usr/local/share/ca-certificates", b.text, nil, ""},
		"of Fedora":        {"ID=fedora\n", "/etc/pki/ca-trust/source/anchors", "", nil, ""},
		"of Rocky":         {"ID=rocky\nID_LIKE=\"rhel centos fedora\"\n", "/etc/pki/ca-trust/source/anchors", b.text, nil, ""},
		"of Arch":          {"ID=arch\n", "/etc/ca-certificates/trust-source/anchors", "", nil, ""},
		"of openSUSE":      {"ID=opensuse-leap\n", "/etc/pki/trust/anchors", "", nil, ""},
		"a source":         {"ID=debian\n", "/usr/local/share/ca-certificates", "", func(r *Resource) { r.Content.Content, r.Source = nil, "files/root.pem" }, ""},
		"one to go":        {"ID=debian\n", "/usr/local/share/ca-certificates", b.text, func(r *Resource) { r.Content.Content, r.State = nil, "absent" }, ""},
		"a sensitive one":  {"ID=debian\n", "/usr/local/share/ca-certificates", "", nil, strings.Split(a.text, "\n")[3]},
	} {
		t.Run(name, func(t *testing.T) {
			h, root := newTree(t, c.release)
			at := filepath.Join(root, c.at, "example.crt")
			if c.had != "" {
				if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(c.had), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			make := func(m resource.Module) resource.Resource {
				r := filled(m, "how it was made: …\r\n"+a.text)
				if c.fill != nil {
					c.fill(r)
				}
				return r
			}
			resourcetest.Run(t, resourcetest.Case{
				Module: func() resource.Module { return New(h) }, Resource: make,
				Tree: fstest.MapFS{"files/root.pem": {Data: []byte(a.text)}},
				Dirs: []string{root}, Offline: true, Secret: c.secret,
			})
			if c.had == b.text && c.fill != nil {
				return
			}
			e, m := &resourcetest.Engine{Offline: true, Tree: fstest.MapFS{"files/root.pem": {Data: []byte(a.text)}}}, New(h)
			r := make(m)
			if err := errors.Join(e.Load(r), e.Converge(t.Context(), m, r)); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(at); err != nil || string(got) != a.text {
				t.Errorf("%s holds %q, error %v", at, got, err)
			}
		})
	}
}

func TestATreeGetsItsBundleLater(t *testing.T) {
	h, _ := newTree(t, "ID=debian\n")
	e, m := &resourcetest.Engine{Offline: true}, New(h)
	r := filled(m, newAuthority(t, nil).text)
	if err := e.Load(r); err != nil {
		t.Fatal(err)
	}
	found, err := e.Check(t.Context(), m, r)
	if err != nil {
		t.Fatal(err)
	}
	if result, err := e.Apply(t.Context(), m, r, found); err != nil || !strings.Contains(result.Pending, "when the machine runs") {
		t.Errorf("returned %+v, error %v", result, err)
	}
}

func TestWhatIsNoCertificateOfAnAuthorityIsRefused(t *testing.T) {
	a, b := newAuthority(t, nil), newAuthority(t, nil)
	leaf := newAuthority(t, func(c *x509.Certificate) { c.IsCA = false })
	for want, content := range map[string]string{
		"there is a private key in it":         a.text + a.private(t),
		"private key in it, which must not be": "-----BEGIN RSA PRIVATE KEY-----\nbroken\n" + a.text,
		"more than one certificate":            a.text + b.text,
		"must be in the form PEM":              "MIIB…",
		"there is no certificate in it":        "",
		`there is "X509 CRL" in it`:            a.text + string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte{1}})),
		"cannot be read":                       string(pem.EncodeToMemory(&pem.Block{Type: certificate, Bytes: []byte{1, 2}})),
		"is not that of an authority":          leaf.text,
		"OpenSSL's own form":                   strings.ReplaceAll(a.text, certificate, "TRUSTED CERTIFICATE"),
		"more than 65536 bytes":                strings.Repeat("#\n", sizeLimit) + a.text,
	} {
		h, _ := newTree(t, "")
		r := filled(New(h), content)
		if err := r.Load(resourcetest.Loader{}); err != nil {
			t.Fatal(err)
		}
		var wrong *resource.FieldError
		if err := r.Validate(); !errors.As(err, &wrong) || wrong.Field != "content" || !strings.Contains(wrong.Problem, want) {
			t.Errorf("returned %v, want %q", err, want)
		}
	}
}

func TestATimeThatIsOverIsRemarked(t *testing.T) {
	a := newAuthority(t, nil)
	h, _ := newTree(t, "")
	for want, now := range map[string]time.Time{
		"":                 time.Now(),
		"expired on":       a.cert.NotAfter.Add(time.Second),
		"expires on":       a.cert.NotAfter.Add(-soon + time.Second),
		"not valid before": a.cert.NotBefore.Add(-time.Second),
	} {
		m, e := New(h), &resourcetest.Engine{Offline: true}
		r := filled(m, a.text)
		r.now = func() time.Time { return now }
		if err := e.Load(r); err != nil {
			t.Fatal(err)
		}
		found, err := e.Check(t.Context(), m, r)
		if err != nil || !strings.Contains(found.Note, want) || want == "" && found.Note != "" {
			t.Errorf("at %s the note is %q, error %v", now, found.Note, err)
		}
	}
}

func TestAWitnessHoldsUntilTheFileMovesOrTheTimeIsNear(t *testing.T) {
	for name, c := range map[string]struct {
		left  time.Duration
		moved bool
		want  bool
	}{
		"as it was": {soon + time.Hour, false, true},
		"the file":  {soon + time.Hour, true, false},
		"near":      {soon - time.Hour, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			h, root := newTree(t, "")
			a := newAuthority(t, func(x *x509.Certificate) { x.NotAfter = time.Now().Add(c.left) })
			m, e := New(h), &resourcetest.Engine{Offline: true}
			r := filled(m, a.text)
			if err := errors.Join(e.Load(r), e.Converge(t.Context(), m, r)); err != nil {
				t.Fatal(err)
			}
			at := filepath.Join(root, r.store.file("example"))
			var found resource.Finding
			for range 100 { // what was written just now is no witness
				var err error
				if found, err = e.Check(t.Context(), m, r); err != nil || !found.InOrder() {
					t.Fatalf("found %+v, error %v", found, err)
				}
				if found.Witness != nil || c.left < soon {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			if c.moved {
				if err := os.Chmod(at, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if holds := m.(resource.Examiner).Holds(t.Context(), "example", found.Witness); holds != c.want {
				t.Errorf("it holds: %v", holds)
			}
		})
	}
}

func TestWrongValuesAreNamed(t *testing.T) {
	a := newAuthority(t, nil)
	h, _ := newTree(t, "")
	for name, c := range map[string]struct {
		change func(r *Resource)
		field  string
	}{
		"a path":              {func(r *Resource) { r.Title = "../x" }, "ca_certificate"},
		"hidden":              {func(r *Resource) { r.Title = ".x" }, "ca_certificate"},
		"a space":             {func(r *Resource) { r.Title = "a b" }, "ca_certificate"},
		"no content":          {func(r *Resource) { r.Content.Content = nil }, "content"},
		"two contents":        {func(r *Resource) { r.Source = "x" }, "content"},
		"absent with content": {func(r *Resource) { r.State = "absent" }, "state"},
		"another state":       {func(r *Resource) { r.State = "gone" }, "state"},
	} {
		r := filled(New(h), a.text)
		if err := r.Load(resourcetest.Loader{}); err != nil {
			t.Fatal(err)
		}
		c.change(r)
		var wrong *resource.FieldError
		if err := r.Validate(); !errors.As(err, &wrong) || wrong.Field != c.field {
			t.Errorf("%s: returned %v, want an error in %s", name, err, c.field)
		}
	}
}
