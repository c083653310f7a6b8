package trust_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"trued.dev/trued/internal/trust"
)

// A gpg is GnuPG with a home of its own, in a short path, as its sockets need it.
type gpg struct {
	t    *testing.T
	home string
}

func newGPG(t *testing.T) *gpg {
	t.Helper()
	home, err := os.MkdirTemp("", "pgp-")
	if err != nil {
		t.Fatal(err)
	}
	g := &gpg{t, home}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	return g
}

func (g *gpg) run(in string, args ...string) string {
	g.t.Helper()
	cmd := exec.Command("gpg", append([]string{"--homedir", g.home, "-q", "--batch", "--yes", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
	cmd.Stdin = strings.NewReader(in)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		g.t.Fatalf("gpg %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// key makes a key, its fingerprint, and a subkey that signs where lasts says how long
// that does. What has an end began in 2020.
func (g *gpg) key(who, usage, ends, lasts string) string {
	g.t.Helper()
	when := []string{"--faked-system-time", "20200101T000000!"}
	g.run("", append(when, "--quick-generate-key", who+" <"+who+"@example.com>", "ed25519", usage, ends)...)
	fingerprint := g.fingerprints(who)[0]
	if lasts != "" {
		g.run("", append(when, "--quick-add-key", fingerprint, "ed25519", "sign", lasts)...)
	}
	return fingerprint
}

// fingerprints are those of a key and its subkeys.
func (g *gpg) fingerprints(who string) []string {
	g.t.Helper()
	var all []string
	for line := range strings.Lines(g.run("", "--with-colons", "--list-keys", who+"@example.com")) {
		if fields := strings.Split(line, ":"); fields[0] == "fpr" {
			all = append(all, fields[9])
		}
	}
	return all
}

// keyring writes the public keys of some into a file.
func (g *gpg) keyring(name string, options []string, who ...string) string {
	g.t.Helper()
	file := filepath.Join(g.home, name)
	args := append(append([]string{}, options...), "--export")
	for _, w := range who {
		args = append(args, w+"@example.com")
	}
	if err := os.WriteFile(file, []byte(g.run("", args...)), 0o600); err != nil {
		g.t.Fatal(err)
	}
	return file
}

func (g *gpg) sign(message string, options ...string) string {
	g.t.Helper()
	return g.run(message, append(options, "--armor", "--detach-sign")...)
}

// What GnuPG makes is taken while its key may sign, by the key itself or a subkey,
// and refused for its own reason where it may not.
func TestOpenPGPKeysSignAsLongAsTheyMay(t *testing.T) {
	t.Parallel()
	g := newGPG(t)
	then := []string{"--faked-system-time", "20200102T000000!"}
	as := func(who string) []string { return []string{"-u", g.fingerprints(who)[0]} }
	sub := func(who string) []string { return []string{"-u", g.fingerprints(who)[1] + "!"} }

	g.key("ada", "sign", "0", "")
	g.key("bob", "cert", "0", "0")
	g.key("subold", "cert", "0", "1m")
	g.key("old", "cert", "1m", "0")
	g.key("lost", "cert", "0", "0")
	g.key("sublost", "cert", "0", "0")
	g.key("mallory", "cert", "0", "0")
	g.run("", append(then, "--quick-generate-key", "rsa <rsa@example.com>", "rsa2048", "sign", "0")...) // others take no SHA-1
	payload := aTree + byAda + "\nA message\n"                                                          // of 2023
	signatures := map[string]string{}
	for _, who := range []string{"subold", "old", "lost", "sublost", "bob", "mallory"} {
		signatures[who] = g.sign(payload, append(sub(who), then...)...)
	}
	signatures["ada"] = g.sign(payload, as("ada")...)
	signatures["two at once"] = g.sign(payload, append(as("ada"), sub("bob")...)...)
	signatures["by SHA-1"] = g.sign(payload, append(as("rsa"), "--digest-algo", "SHA1")...)
	signatures["by RSA"] = g.sign(payload, as("rsa")...)
	signatures["of a text"] = g.sign(payload, append(as("ada"), "--textmode")...)
	signatures["of another"] = g.sign(payload+"x", as("ada")...)
	signatures["that ends"] = g.sign(payload, append(append(as("ada"), then...), "--default-sig-expire", "2d")...)
	one, two := signatures["ada"], signatures["mallory"]

	revocation, err := os.ReadFile(filepath.Join(g.home, "openpgp-revocs.d", g.fingerprints("lost")[0]+".rev"))
	if err != nil {
		t.Fatal(err)
	}
	g.run(strings.Replace(string(revocation), ":-----BEGIN", "-----BEGIN", 1), "--import")
	g.run("key 1\nrevkey\ny\n0\n\ny\nsave\n", "--command-fd", "0", "--edit-key", g.fingerprints("sublost")[0])

	trusted := []string{"ada", "rsa", "bob", "subold", "old", "lost", "sublost"}
	armored := g.keyring("armored", []string{"--armor"}, trusted...)
	binary := g.keyring("binary", nil, trusted...)
	for name, c := range map[string]struct {
		signature string
		want      trust.Reason
		signer    string
	}{
		"by a key":                      {one, "", "ada"},
		"by a subkey":                   {signatures["bob"], "", "bob"},
		"by a subkey that expired":      {signatures["subold"], trust.Expired, "subold"},
		"by a subkey of an expired key": {signatures["old"], trust.Expired, "old"},
		"by a subkey of a revoked key":  {signatures["lost"], trust.Revoked, "lost"},
		"by a revoked subkey":           {signatures["sublost"], trust.Revoked, "sublost"},
		"by a stranger":                 {two, trust.UnknownKey, ""},
		"two at once":                   {signatures["two at once"], trust.BadSignature, ""},
		"one after the other":           {one + two, trust.BadSignature, ""},
		"by RSA":                        {signatures["by RSA"], "", "rsa"},
		"by SHA-1":                      {signatures["by SHA-1"], trust.BadSignature, ""},
		"of a text":                     {signatures["of a text"], trust.BadSignature, ""},
		"of another commit":             {signatures["of another"], trust.BadSignature, "ada"},
		"one that ended":                {signatures["that ends"], trust.Expired, "ada"},
		"cut off":                       {one[:len(one)/2], trust.BadSignature, ""},
		"a whole message":               {g.run(payload, append(as("ada"), "--armor", "--sign")...), trust.BadSignature, ""},
		"a key in place of it":          {g.run("", "--armor", "--export", "ada@example.com"), trust.BadSignature, ""},
	} {
		for _, keyring := range []string{armored, binary} {
			judge := trust.NewJudge(trust.Config{Require: trust.Signature, Keyring: keyring}, errElsewhere)
			var l line
			l.add(t, aTree+byAda+folded("gpgsig", []byte(c.signature))+"\nA message\n", nil)
			v, err := judge.Commits(&l, trust.Anchor{Accept: true})
			got := reasonOf(t, err)
			signer := v.Signer
			if why, ok := err.(*trust.Refusal); ok && why != nil {
				signer = why.Signer
			}
			if got != c.want || !strings.Contains(signer, c.signer) {
				t.Errorf("%s, keyring %s: %q by %q, want %q by %q: %v", name, filepath.Base(keyring), got, signer, c.want, c.signer, err)
			}
		}
	}
}
