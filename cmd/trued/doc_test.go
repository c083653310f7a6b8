package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"regexp"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/modules"
)

func TestTheExampleOfEveryKindLoads(t *testing.T) {
	all := modules.All(host.New("/", host.Options{}))
	key, fingerprint := packagers(t)
	for _, m := range all {
		e, ok := m.(resource.Exemplar)
		if !ok {
			t.Errorf("%s has no example", m.Kind())
			continue
		}
		t.Run(m.Kind(), func(t *testing.T) {
			// The example is of a key that is on the network alone.
			example := regexp.MustCompile(`fingerprint: .*`).ReplaceAllString(e.Example(), "fingerprint: "+fingerprint)
			tree := fstest.MapFS{
				"groups/web/web.yaml":               {Data: []byte(example)},
				"groups/web/files/docker.asc":       {Data: key},
				"groups/web/files/deploy.pub":       {Data: []byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB5wQl8VbC9zD5x7dMoT4mEdpBqgmhmM4X7TttD4jhCo deploy@ci\n")},
				"groups/web/files/app.signers":      {Data: []byte("ada@example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB5wQl8VbC9zD5x7dMoT4mEdpBqgmhmM4X7TttD4jhCo\n")},
				"groups/web/files/ssh_banner.in":    {Data: []byte("x\n")},
				"groups/web/files/example-root.pem": {Data: authority(t)},

				"groups/web/files/www/index.html":      {Data: []byte("x\n")},
				"groups/web/templates/nginx.conf.tmpl": {Data: []byte("x\n")},
				"groups/web/group.yaml":                {Data: []byte("vars: {token: x}\n")},
			}
			v, err := catalog.Validate("", tree, all, "")
			if err != nil {
				t.Fatal(err)
			}
			if len(v.Loads) != 1 || v.Loads[0].Resources == 0 {
				t.Errorf("loaded %+v", v.Loads)
			}
		})
	}
}

func TestTheReferenceExplainsEveryAttribute(t *testing.T) {
	var reference bytes.Buffer
	if err := writeReference(&reference); err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `(.*?)` \\| (.*?) \\| (.*) \\|$").FindAllStringSubmatch(reference.String(), -1)
	if len(rows) < 250 {
		t.Errorf("there are %d rows", len(rows))
	}
	for _, row := range rows {
		if row[2] == "" || row[3] == "" {
			t.Errorf("nothing is said in %s", row[0])
		}
	}
}

// packagers makes a key that packages are signed with.
func packagers(t *testing.T) (armored []byte, fingerprint string) {
	t.Helper()
	e, err := openpgp.NewEntity("Example", "", "packages@example.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	w, err := armor.Encode(&text, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.Serialize(w), w.Close()); err != nil {
		t.Fatal(err)
	}
	return text.Bytes(), hex.EncodeToString(e.PrimaryKey.Fingerprint)
}

// authority makes the certificate of one that may sign others.
func authority(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
