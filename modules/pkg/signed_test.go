package pkg

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
)

// contractSigned: an index that is signed with a key of the repository's own file is
// taken at the first try, and one that is signed with another is not.
func contractSigned(t *testing.T, l lab) {
	if l.name != "zypper" {
		return // dnf takes the key when it installs, and apt has its own of each repository
	}
	vendor, stranger := newSigner(t, "vendor"), newSigner(t, "stranger")
	write(t, "/etc/pki/rpm-gpg/RPM-GPG-KEY-lab", armored(t, vendor), 0o644)
	unsigned, err := os.ReadFile("/etc/zypp/repos.d/lab.repo")
	if err != nil {
		t.Fatal(err)
	}
	write(t, "/etc/zypp/repos.d/lab.repo", strings.Replace(string(unsigned), "gpgcheck=0", "gpgcheck=1\ngpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-lab", 1), 0o644)
	l.publish(t, parcel{name: "signed", version: "1.0-1"})
	signIndex(t, vendor)
	w := l.world(t)
	w.converge(Resource{Package: "signed"})
	l.has(t, map[string]string{"signed": "1.0-1"})

	l.publish(t, parcel{name: "forged", version: "1.0-1"})
	signIndex(t, stranger)
	w.run(t.Context(), []Resource{{Package: "forged"}})["forged"].want(t, "forged", "does not know it")
	l.has(t, map[string]string{"forged": ""})

	// A key that takes the place of another counts at once.
	write(t, "/etc/pki/rpm-gpg/RPM-GPG-KEY-lab", armored(t, stranger), 0o644)
	w.converge(Resource{Package: "forged"})
	l.has(t, map[string]string{"forged": "1.0-1"})

	write(t, "/etc/zypp/repos.d/lab.repo", string(unsigned), 0o644)
	shell(t, "rm "+rpmRepository+"/repodata/repomd.xml.*; "+l.refresh)
	w.converge(Resource{Package: "signed", State: "absent"}, Resource{Package: "forged", State: "absent"})
}

func newSigner(t *testing.T, name string) *openpgp.Entity {
	t.Helper()
	key, err := openpgp.NewEntity(name, "", name+"@example.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func armored(t *testing.T, key *openpgp.Entity) string {
	t.Helper()
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	if err == nil {
		err = key.Serialize(w)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String() + "\n"
}

// signIndex signs the index of the repository, which has the key beside it.
func signIndex(t *testing.T, key *openpgp.Entity) {
	t.Helper()
	const index = rpmRepository + "/repodata/repomd.xml"
	text, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	var signature bytes.Buffer
	if err := openpgp.ArmoredDetachSign(&signature, key, bytes.NewReader(text), nil); err != nil {
		t.Fatal(err)
	}
	write(t, index+".asc", signature.String()+"\n", 0o644)
	write(t, index+".key", armored(t, key), 0o644)
}
