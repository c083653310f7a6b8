package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
	"testing/fstest"
	"time"

	"trued.dev/trued/internal/catalog"
	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/modules"
)

func TestTheExampleOfEveryKindLoads(t *testing.T) {
	all := modules.All(host.New("/", host.Options{}))
	for _, m := range all {
		e, ok := m.(resource.Exemplar)
		if !ok {
			continue
		}
		t.Run(m.Kind(), func(t *testing.T) {
			tree := fstest.MapFS{
				"groups/web/web.yaml":               {Data: []byte(e.Example())},
				"groups/web/files/deploy.pub":       {Data: []byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB5wQl8VbC9zD5x7dMoT4mEdpBqgmhmM4X7TttD4jhCo deploy@ci\n")},
				"groups/web/files/ssh_banner.in":    {Data: []byte("x\n")},
				"groups/web/files/example-root.pem": {Data: authority(t)},
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
