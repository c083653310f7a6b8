package trust_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/trust"
)

// A keygen is ssh-keygen with a directory of its own: what we are held against.
type keygen struct {
	t   testing.TB
	dir string
}

func newKeygen(t testing.TB) *keygen {
	t.Helper()
	return &keygen{t: t, dir: t.TempDir()}
}

func (k *keygen) path(name string) string { return filepath.Join(k.dir, name) }

func (k *keygen) run(args ...string) {
	k.t.Helper()
	cmd := exec.Command("ssh-keygen", args...)
	cmd.Dir = k.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		k.t.Fatalf("ssh-keygen %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (k *keygen) write(name, text string) string {
	k.t.Helper()
	if err := os.WriteFile(k.path(name), []byte(text), 0o600); err != nil {
		k.t.Fatal(err)
	}
	return k.path(name)
}

func (k *keygen) read(name string) string {
	k.t.Helper()
	data, err := os.ReadFile(k.path(name))
	if err != nil {
		k.t.Fatal(err)
	}
	return string(data)
}

// key makes a key, and returns its public half without the comment.
func (k *keygen) key(name string, kind ...string) string {
	k.t.Helper()
	k.run(append([]string{"-q", "-N", "", "-C", "", "-f", name, "-t"}, kind...)...)
	return k.public(name)
}

func (k *keygen) public(name string) string {
	return strings.TrimSpace(k.read(name + ".pub"))
}

// certify gives a copy of a key a certificate.
func (k *keygen) certify(authority, name, as string, options ...string) {
	k.t.Helper()
	k.write(as, k.read(name))
	k.write(as+".pub", k.read(name+".pub"))
	k.run(append(append([]string{"-q", "-s", authority}, options...), as+".pub")...)
	// The certificate is what signs: ssh-keygen takes it for the public half.
	k.write(as+".pub", k.read(as+"-cert.pub"))
}

func (k *keygen) sign(name, namespace, message string) []byte {
	k.t.Helper()
	file := k.write("message", message)
	_ = os.Remove(file + ".sig")
	k.run("-q", "-Y", "sign", "-f", name, "-n", namespace, file)
	return []byte(k.read("message.sig"))
}

// verifies asks ssh-keygen.
func (k *keygen) verifies(signers, revoked, identity, namespace string, signature []byte, message string, at time.Time) bool {
	k.t.Helper()
	args := []string{
		"-Y", "verify", "-f", k.write("signers", signers), "-I", identity, "-n", namespace,
		"-s", k.write("signature", string(signature)), "-O", "verify-time=" + at.UTC().Format("20060102150405") + "Z",
	}
	if revoked != "" {
		args = append(args, "-r", revoked)
	}
	cmd := exec.Command("ssh-keygen", args...)
	cmd.Dir = k.dir
	cmd.Stdin = strings.NewReader(message)
	return cmd.Run() == nil
}

const message = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n\nA message\n"

// signatures makes one of each kind of key and certificate.
func (k *keygen) signatures(namespaces ...string) (keys []string, signatures map[string][]byte) {
	k.t.Helper()
	signatures = map[string][]byte{}
	k.key("ed", "ed25519")
	k.key("other", "ed25519")
	k.key("rsa", "rsa", "-b", "2048")
	k.key("ec256", "ecdsa", "-b", "256")
	k.key("ec521", "ecdsa", "-b", "521")
	k.key("ca", "ed25519")
	k.key("rsaca", "rsa", "-b", "2048")
	k.certify("ca", "ed", "ada", "-I", "ada-key", "-n", "ada@example.com", "-z", "7", "-V", "20240101000000Z:20250101000000Z")
	k.certify("ca", "rsa", "many", "-I", "many", "-n", "ada@example.com,bob@example.org", "-z", "300", "-V", "always:forever")
	k.certify("rsaca", "ec256", "bob", "-I", "bob-key", "-n", "bob@example.org", "-V", "20240601000000Z:forever")
	k.certify("ca", "other", "nobody", "-I", "nobody", "-V", "always:forever")
	k.certify("ca", "ec521", "machine", "-I", "machine", "-h", "-n", "ada@example.com", "-V", "always:forever")
	keys = []string{"ed", "other", "rsa", "ec256", "ec521", "ada", "many", "bob", "nobody", "machine"}
	for _, key := range keys {
		for _, namespace := range namespaces {
			signatures[key+" "+namespace] = k.sign(key, namespace, message)
		}
	}
	return keys, signatures
}

// revocations are files of every form: none, lists, and KRLs.
func (k *keygen) revocations() []string {
	k.t.Helper()
	k.write("spec", "serial: 7\nserial: 290-310\nid: bob-key\n")
	for name, args := range map[string][]string{
		"krl-key":  {"ed.pub"},
		"krl-cert": {"many-cert.pub"},
		"krl-ca":   {"rsaca.pub"},
	} {
		k.run(append([]string{"-q", "-k", "-f", name}, args...)...)
	}
	k.run("-q", "-k", "-f", "krl-serial", "-s", "ca.pub", "spec")
	k.write("spec-sha", "sha256: "+k.public("ec256")+"\nsha1: "+k.public("rsa")+"\n")
	k.run("-q", "-k", "-f", "krl-digest", "spec-sha")
	k.write("list-key", "# lost\n\n"+k.public("ed")+" ada\n")
	k.write("list-ca", k.public("ca")+"\n"+k.public("ec521")+"\n")
	k.write("list-broken", "this is no key\n")
	return []string{"krl-key", "krl-cert", "krl-ca", "krl-serial", "krl-digest", "list-key", "list-ca", "list-broken"}
}

// A draw makes lists of signers by chance, most of them sensible.
type draw struct {
	*rand.Rand
	k *keygen
}

func (d draw) of(words ...string) string { return words[d.IntN(len(words))] }

// line is one of a list, which is likely to be of the key, or of what certifies it.
func (d draw) line(signer string) string {
	principals := d.of("*", "*@example.*", "ada@example.com", "bob@example.org", "*@example.com", "*", "ada@example.com,bob@example.org",
		"*,!bob@example.org", "!ada@example.com,*@example.com", "?da@example.com", `"ada@example.com"`, "*@*,!*@example.org", "ADA@example.com")
	var options []string
	of := map[string]string{"ada": "ca", "many": "ca", "nobody": "ca", "machine": "ca", "bob": "rsaca"}
	owner, authority := of[signer]
	if !authority {
		owner = signer
	}
	if d.IntN(6) == 0 {
		authority = !authority
	}
	if authority {
		options = append(options, d.of("cert-authority", "Cert-Authority"))
	}
	if d.IntN(4) == 0 {
		options = append(options, "namespaces="+d.of(`"git"`, `"file"`, `"file,git"`, `"g*"`, `"*,!git"`, `git`, `""`))
	}
	moment := func() string {
		return d.of("20230101", "20240301", "202406151200", "20240615120000", "20240615Z", "20250101000000Z", "20240615utc", "20260101",
			"20240231", "20230301Z", "20220101", d.of("2024", "tomorrow", "19700101Z", "20241301", "20240615246060"))
	}
	if d.IntN(4) == 0 {
		options = append(options, d.of("valid-after=", "Valid-After=")+`"`+moment()+`"`)
	}
	if d.IntN(4) == 0 {
		options = append(options, `valid-before="`+moment()+`"`)
	}
	if d.IntN(20) == 0 {
		options = append(options, d.of("no-such-option", "", "valid-after=", `namespaces="git`, "cert-authority"))
	}
	d.Shuffle(len(options), func(i, j int) { options[i], options[j] = options[j], options[i] })
	key := d.k.public(d.of(owner, owner, owner, owner, owner, owner, owner, owner, "ed", "other", "rsa", "ec256", "ec521", "ca", "ca", "rsaca", "ada"))
	if d.IntN(30) == 0 {
		key = d.of("ssh-ed25519", "ssh-ed25519 AAAA", "ssh-rsa "+strings.Fields(d.k.public("ed"))[1], "")
	}
	words := []string{principals, strings.Join(options, ","), key}
	if len(options) == 0 {
		words = []string{principals, key}
	}
	return d.of("", "", "", " ") + strings.Join(words, d.of(" ", " ", "\t", "  ")) + d.of("", " a comment")
}

func (d draw) signers(signer string) string {
	var b strings.Builder
	for range 1 + d.IntN(4) {
		b.WriteString(d.of("", "", "", "# a remark\n", "\n"))
		b.WriteString(d.line(signer) + "\n")
	}
	return b.String()
}

// What ssh-keygen accepts we accept, and nothing else.
func TestVerdictsAreThoseOfSSHKeygen(t *testing.T) {
	t.Parallel()
	k := newKeygen(t)
	keys, signatures := k.signatures("git", "file")
	revoked := append(k.revocations(), make([]string, 30)...)
	const cases = 400
	d := draw{rand.New(rand.NewPCG(1, 2)), k}
	accepted := 0
	for i := range cases {
		key, namespace := d.of(keys...), d.of("git", "git", "git", "file")
		signers := d.signers(key)
		signature := signatures[key+" "+namespace]
		identity := d.of("ada@example.com", "bob@example.org", "*@example.com", "Ada@example.com")
		asked := d.of(namespace, namespace, namespace, "git")
		at := time.Date(2022+d.IntN(5), time.Month(1+d.IntN(12)), d.IntN(29), d.IntN(24), d.IntN(60), d.IntN(60), 0, time.UTC)
		if d.IntN(4) == 0 { // on a bound, and a second beside it
			at = time.Date(2024, 6, 15, 12, 0, d.IntN(3)-1, 0, time.UTC)
		}
		text := message
		if d.IntN(15) == 0 {
			text += "tampered"
		}
		list := d.of(revoked...)
		want := k.verifies(signers, list, identity, asked, signature, text, at)
		got, why := verify(k, signers, list, signature, text, asked, identity, at)
		if want != (why == nil) {
			t.Errorf("case %d: ssh-keygen says %t, we say %q, %v\nkey %s, identity %s, namespace %s, asked for %s, revoked by %q, at %s\n%s",
				i, want, got, why, key, identity, namespace, asked, list, at, signers)
		}
		if want {
			accepted++
		}
	}
	t.Logf("%d of %d were accepted", accepted, cases)
	if accepted < cases/20 || accepted > cases*19/20 {
		t.Errorf("%d of %d cases were accepted: they prove little", accepted, cases)
	}
}

func verify(k *keygen, signers, revoked string, signature []byte, message, namespace, identity string, at time.Time) (string, error) {
	var list *trust.Revocations
	if revoked != "" {
		var err error
		if list, err = trust.ParseRevocations([]byte(k.read(revoked))); err != nil {
			return "", err
		}
	}
	name, why := trust.VerifySSH(trust.ParseSigners([]byte(signers), time.Local), list, signature, []byte(message), namespace, identity, at)
	if why != nil {
		return name, why
	}
	return name, nil
}

// Each form of a list revokes what ssh-keygen says that it does.
func TestRevocationsAreThoseOfSSHKeygen(t *testing.T) {
	t.Parallel()
	k := newKeygen(t)
	keys, signatures := k.signatures("git")
	at := time.Date(2024, 7, 1, 0, 0, 0, 0, time.UTC)
	var signers strings.Builder
	for _, key := range []string{"ed", "other", "rsa", "ec256", "ec521"} {
		fmt.Fprintf(&signers, "* %s\n", k.public(key))
	}
	fmt.Fprintf(&signers, "* cert-authority %s\n* cert-authority %s\n", k.public("ca"), k.public("rsaca"))
	refused := 0
	for _, list := range k.revocations() {
		for _, key := range keys {
			identity := "ada@example.com"
			if key == "bob" {
				identity = "bob@example.org"
			}
			want := k.verifies(signers.String(), list, identity, "git", signatures[key+" git"], message, at)
			_, why := verify(k, signers.String(), list, signatures[key+" git"], message, "git", identity, at)
			if want != (why == nil) {
				t.Errorf("%s with %s: ssh-keygen says %t, we say %v", key, list, want, why)
			}
			if !want {
				refused++
			}
		}
	}
	if refused < 20 {
		t.Errorf("%d were refused: that proves little", refused)
	}
}
