package secret

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"

	"trued.dev/trued/internal/host"
)

// sshKey makes an SSH key: its private half as a file, and its public one.
func sshKey(t testing.TB, name string) (private []byte, public string) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, name)
	if err != nil {
		t.Fatal(err)
	}
	wire, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(wire))) + " " + name
}

func ageKey(t testing.TB) (private []byte, public string) {
	t.Helper()
	i, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return []byte("# made for a test\n" + i.String() + "\n"), i.Recipient().String()
}

func recipients(t testing.TB, list ...string) []Recipient {
	t.Helper()
	var out []Recipient
	for _, text := range list {
		r, err := ParseRecipient(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// keys are identities in files that only their owner reads.
func keys(t testing.TB, files ...[]byte) *Keys {
	t.Helper()
	var names []string
	for _, data := range files {
		name := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return FileKeys(names)
}

func sealed(t testing.TB, data []byte) *Sealed {
	t.Helper()
	s, err := Read(data)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWhoeverASecretIsForReadsIt(t *testing.T) {
	private, public := sshKey(t, "root@web-1")
	native, nativePublic := ageKey(t)
	for _, armored := range []bool{false, true} {
		data, err := Seal([]byte("hunter2\n"), recipients(t, public, nativePublic), armored)
		if err != nil {
			t.Fatal(err)
		}
		s := sealed(t, data)
		if s.Armored != armored || len(s.SSH) != 1 || s.Anonymous != 1 {
			t.Errorf("armored %t: it is %+v", armored, s)
		}
		for name, key := range map[string][]byte{"ssh": private, "age": native} {
			if plain, err := s.Open(keys(t, key)); err != nil || string(plain) != "hunter2\n" {
				t.Errorf("armored %t: %s read %q, error %v", armored, name, plain, err)
			}
		}
	}
}

func TestWhoeverItIsNotForIsToldWhoseKeyIsMissing(t *testing.T) {
	_, public := sshKey(t, "root@web-1")
	other, otherPublic := sshKey(t, "root@web-2")
	_, nativePublic := ageKey(t)
	data, err := Seal([]byte("hunter2"), recipients(t, public, nativePublic), true)
	if err != nil {
		t.Fatal(err)
	}
	_, err = sealed(t, data).Open(keys(t, other))
	var unreadable *UnreadableError
	if !errors.As(err, &unreadable) {
		t.Fatalf("returned %v", err)
	}
	rules, _ := ParseRules([]byte("groups/web " + public + "\n"))
	said := unreadable.Say(rules.Name)
	for _, want := range []string{strings.Fields(otherPublic)[1], "root@web-1", "one age key, which age does not name"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q does not say %q", said, want)
		}
	}
	if _, err := sealed(t, data).Open(FileKeys(nil)); err == nil || !strings.Contains(err.Error(), "no key here") {
		t.Errorf("without a key: %v", err)
	}
}

func TestAKeyThatOthersCanReadIsNotUsed(t *testing.T) {
	private, public := sshKey(t, "x")
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "key"), private, 0o640); err != nil {
		t.Fatal(err)
	}
	data, err := Seal([]byte("hunter2"), recipients(t, public), false)
	if err != nil {
		t.Fatal(err)
	}
	h := host.New(root, host.Options{})
	for name, k := range map[string]*Keys{"a host's": HostKeys(h, []string{"/key"}), "a file": FileKeys([]string{filepath.Join(root, "key")})} {
		if _, err := sealed(t, data).Open(k); err == nil || !strings.Contains(err.Error(), "can be read by others") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Chmod(filepath.Join(root, "key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if plain, err := sealed(t, data).Open(HostKeys(h, []string{"/key"})); err != nil || string(plain) != "hunter2" {
		t.Errorf("read %q, error %v", plain, err)
	}
}

func TestAKeyIsTakenFromSystemdsCredentials(t *testing.T) {
	private, public := sshKey(t, "x")
	data, err := Seal([]byte("hunter2"), recipients(t, public), false)
	if err != nil {
		t.Fatal(err)
	}
	h := host.New(t.TempDir(), host.Options{})
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, err := sealed(t, data).Open(HostKeys(h, []string{"age-key"})); err == nil || !strings.Contains(err.Error(), "no credentials") {
		t.Errorf("without: %v", err)
	}
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	if err := os.WriteFile(filepath.Join(dir, "age-key"), private, 0o440); err != nil {
		t.Fatal(err)
	}
	if plain, err := sealed(t, data).Open(HostKeys(h, []string{"age-key"})); err != nil || string(plain) != "hunter2" {
		t.Errorf("read %q, error %v", plain, err)
	}
}

func TestADamagedFileIsAnErrorThatQuotesNothing(t *testing.T) {
	private, public := sshKey(t, "x")
	data, err := Seal(bytes.Repeat([]byte("hunter2"), 20_000), recipients(t, public), false)
	if err != nil {
		t.Fatal(err)
	}
	for at := range 400 {
		at *= len(data) / 400
		damaged := slices.Clone(data)
		damaged[at] ^= 0x20
		for _, bad := range [][]byte{damaged, data[:at]} {
			s, err := Read(bad)
			var plain []byte
			if err == nil {
				plain, err = s.Open(keys(t, private))
			}
			if err == nil || strings.Contains(err.Error(), "hunter") || plain != nil {
				t.Fatalf("damaged at %d it gave %d bytes, error %v", at, len(plain), err)
			}
		}
	}
}

// The program of age itself reads what is written, and is read.
func TestFilesAreThoseOfAge(t *testing.T) {
	tool, err := exec.LookPath("age")
	if err != nil {
		t.Fatal("age is needed: run .ci/setup")
	}
	private, public := sshKey(t, "x")
	dir := t.TempDir()
	key, file := filepath.Join(dir, "key"), filepath.Join(dir, "file")
	data, err := Seal([]byte("hunter2"), recipients(t, public), true)
	if err := errors.Join(err, os.WriteFile(key, private, 0o600), os.WriteFile(file, data, 0o600)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(tool, "-d", "-i", key, file).Output(); err != nil || string(out) != "hunter2" {
		t.Errorf("age read %q, error %v", out, err)
	}
	cmd := exec.Command(tool, "-r", public)
	cmd.Stdin = strings.NewReader("theirs")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := sealed(t, out).Open(keys(t, private)); err != nil || string(plain) != "theirs" {
		t.Errorf("read %q, error %v", plain, err)
	}
}

func TestWhoMissesASecretAndWhoShouldNotHaveItIsSeenWithoutAKey(t *testing.T) {
	_, one := sshKey(t, "one")
	_, two := sshKey(t, "two")
	_, first := ageKey(t)
	_, second := ageKey(t)
	for name, c := range map[string]struct {
		is, want        []string
		known           []string
		missing, extras int
	}{
		"right":                      {is: []string{one, first}, want: []string{first, one}},
		"one is missing":             {is: []string{one}, want: []string{one, two}, missing: 1},
		"one too many":               {is: []string{one, two}, want: []string{one}, extras: 1},
		"an age key is missing":      {is: []string{one}, want: []string{one, first}, missing: 1},
		"an age key too many":        {is: []string{first, second}, want: []string{first}, extras: 1},
		"another age key, not known": {is: []string{first}, want: []string{second}},
		"another age key, known":     {is: []string{first}, want: []string{second}, known: []string{first}, missing: 1, extras: 1},
	} {
		data, err := Seal([]byte("x"), recipients(t, c.is...), false)
		if err != nil {
			t.Fatal(err)
		}
		missing, extra := sealed(t, data).Compare(recipients(t, c.want...), c.known)
		if len(missing) != c.missing || len(extra) != c.extras {
			t.Errorf("%s: missing %v, extra %v", name, missing, extra)
		}
	}
}

func TestTheIndexCountsForTheFileThatItWasWrittenFor(t *testing.T) {
	_, one := ageKey(t)
	index := Index{}
	index.Put("a.age", []byte("first"), recipients(t, one))
	again := ParseIndex(index.Bytes())
	if got := again.Keys("a.age", []byte("first")); len(got) != 1 || got[0] != one {
		t.Errorf("the keys are %v", got)
	}
	if got := again.Keys("a.age", []byte("another")); got != nil {
		t.Errorf("of another file the keys are %v", got)
	}
}

func TestLinesSayWhoReadsWhat(t *testing.T) {
	_, admin := ageKey(t)
	_, web := sshKey(t, "root@web-1")
	_, db := sshKey(t, "root@db-1")
	rules, wrong := ParseRules([]byte("# who\n* " + admin + " ops\n\ngroups/web\t" + web + "\ngroups/d? " + db +
		"\ngroups/web/secrets/only.age " + db + "\n"))
	if len(wrong) > 0 {
		t.Fatal(wrong)
	}
	for name, c := range map[string]struct {
		secret string
		groups []string
		want   string
	}{
		"a group":          {"groups/web/secrets/x.age", []string{"groups/web"}, "ops root@web-1"},
		"several groups":   {"groups/base/x.age", []string{"groups/web", "groups/db"}, "ops root@web-1 root@db-1"},
		"a glob":           {"x.age", []string{"groups/db"}, "ops root@db-1"},
		"no group":         {"x.age", []string{"groups/mail"}, "ops"},
		"lines of its own": {"groups/web/secrets/only.age", []string{"groups/web"}, "ops root@db-1"},
	} {
		var got []string
		for _, r := range rules.Of(c.secret, c.groups) {
			got = append(got, r.String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: read by %v, want %s", name, got, c.want)
		}
	}
	if rules.ForGroup("x.age", "groups/mail") || !rules.ForGroup("x.age", "groups/db") {
		t.Error("the groups that have lines are others")
	}
}

func TestALineThatIsNoneIsNamed(t *testing.T) {
	for text, want := range map[string]string{
		"groups/web":                         "no key",
		"groups/web ssh-ed25519":             "missing",
		"groups/web ssh-ed25519 AAAA":        "no SSH key",
		"groups/web ecdsa-sha2-nistp256 AAA": "begins no key",
		"groups/web age1xyz":                 "no age key",
		"groups/[ age1xyz":                   "no glob",
		"/groups/web age1xyz":                "no glob",
		"* AGE-SECRET-KEY-1QQQQ":             "private key",
	} {
		_, wrong := ParseRules([]byte("\n" + text + "\n"))
		if len(wrong) != 1 || wrong[0].Line != 2 || !strings.Contains(wrong[0].Message, want) {
			t.Errorf("%q: %v", text, wrong)
		}
	}
	if _, wrong := ParseRules([]byte("* AGE-SECRET-KEY-1QQQQ")); strings.Contains(wrong[0].Error(), "QQQQ") {
		t.Errorf("the private key is told: %v", wrong)
	}
}

// FuzzRules: whatever a recipients file holds, what is right in it can be encrypted
// for, and what is wrong has a line.
func FuzzRules(f *testing.F) {
	_, web := sshKey(f, "root@web-1")
	_, native := ageKey(f)
	f.Add("* " + native + " ops\ngroups/web\t" + web + "\n# x\n")
	f.Add("groups/[ x\n\x00 ssh-ed25519 AAAA\n")
	f.Fuzz(func(t *testing.T, text string) {
		rules, wrong := ParseRules([]byte(text))
		lines := strings.Count(text, "\n") + 1
		for _, w := range wrong {
			if w.Line < 1 || w.Line > lines || w.Message == "" {
				t.Errorf("line %d of %d: %q", w.Line, lines, w.Message)
			}
		}
		for _, r := range rules {
			data, err := Seal([]byte("x"), []Recipient{r.Recipient}, false)
			if err != nil {
				t.Fatal(err)
			}
			if missing, extra := sealed(t, data).Compare([]Recipient{r.Recipient}, nil); len(missing)+len(extra) > 0 {
				t.Errorf("%q: missing %v, extra %v", r.Recipient.Key, missing, extra)
			}
		}
	})
}

// FuzzRead: no file, whoever wrote it, ends the program.
func FuzzRead(f *testing.F) {
	private, public := sshKey(f, "x")
	for _, armored := range []bool{false, true} {
		data, err := Seal([]byte("hunter2"), recipients(f, public), armored)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	k := keys(f, private)
	f.Fuzz(func(_ *testing.T, data []byte) {
		if s, err := Read(data); err == nil {
			_, _ = s.Open(k)
			_ = s.For(nil)
		}
	})
}
