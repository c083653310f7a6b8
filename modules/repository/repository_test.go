package repository

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

// newKey makes a key that was made some time ago and lives for a time; for ever
// with 0.
func newKey(t *testing.T, ago, lives time.Duration) *openpgp.Entity {
	t.Helper()
	made := time.Now().Add(-ago)
	e, err := openpgp.NewEntity("Example", "", "packages@example.com", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, DefaultHash: crypto.SHA512,
		Time: func() time.Time { return made }, KeyLifetimeSecs: uint32(lives / time.Second),
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func binary(t *testing.T, keys ...*openpgp.Entity) string {
	t.Helper()
	var b bytes.Buffer
	for _, e := range keys {
		if err := e.Serialize(&b); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func armored(t *testing.T, kind, data string) string {
	t.Helper()
	var b bytes.Buffer
	w, err := armor.Encode(&b, "PGP "+kind, nil)
	if err == nil {
		_, err = w.Write([]byte(data))
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String() + "\n"
}

func fingerprint(e *openpgp.Entity) string {
	all, _ := parseFingerprints(strings.ToUpper(hexOf(e.PrimaryKey.Fingerprint)))
	return all[0]
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, c := range b {
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}

func filled(m resource.Module, fill Resource) *Resource {
	r := m.New().(*Resource)
	fill.host, fill.form, fill.now = r.host, r.form, r.now
	*r = fill
	if r.Title == "" {
		r.Title = "example"
	}
	return r
}

func debian(fill Resource) Resource {
	fill.URIs = []string{"https://packages.example.com/debian"}
	fill.Suites, fill.Components = []string{"bookworm"}, []string{"main", "extra"}
	return fill
}

func newTree(t *testing.T, release string) (*host.Host, string) {
	t.Helper()
	root := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(root, "etc"), 0o755),
		os.WriteFile(filepath.Join(root, "etc/os-release"), []byte(release), 0o644)); err != nil {
		t.Fatal(err)
	}
	return host.New(root, host.Options{Backups: host.OpenBackups(t.TempDir())}), root
}

func put(t *testing.T, root, name, content string) {
	t.Helper()
	at := filepath.Join(root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
}

const (
	ofDebian = "ID=debian\nVERSION_CODENAME=bookworm\n"
	ofRHEL   = "ID=rocky\nID_LIKE=\"rhel centos fedora\"\n"
	ofSUSE   = "ID=opensuse-leap\n"
)

func TestRepositoryKeepsThePromisesOfAModule(t *testing.T) {
	key := newKey(t, time.Hour, 0)
	tree := fstest.MapFS{
		"files/key.asc": {Data: []byte(armored(t, armorType, binary(t, key)))},
		"files/key.gpg": {Data: []byte(binary(t, key))},
	}
	no := false
	for name, c := range map[string]struct {
		release string
		had     string
		fill    Resource
		want    map[string]string
		secret  string
	}{
		"apt": {release: ofDebian, fill: debian(Resource{SignedBy: "files/key.asc", Fingerprint: fingerprint(key), Pin: &Pin{Priority: 100}}), want: map[string]string{
			"/etc/apt/sources.list.d/example.sources": "# kept by trued\nTypes: deb\nURIs: https://packages.example.com/debian\nSuites: bookworm\n" +
				"Components: main extra\nSigned-By: /etc/apt/keyrings/example.gpg\n",
			"/etc/apt/keyrings/example.gpg":       binary(t, key),
			"/etc/apt/preferences.d/example.pref": "# kept by trued\nPackage: *\nPin: origin \"packages.example.com\"\nPin-Priority: 100\n",
		}},
		"all that apt takes": {release: ofDebian, had: "Types: deb\n", fill: Resource{
			Description: "Example", URIs: []string{"http://a.example.com/x", "http://b.example.com/x"}, Suites: []string{"./"}, Types: []string{"deb", "deb-src"},
			Architectures: []string{"amd64", "arm64"}, Enabled: &no, SignedBy: "/usr/share/keyrings/other.gpg",
			Pin: &Pin{Priority: -1, Packages: []string{"nginx*", "php*"}, On: "release o=Example"}, Options: map[string]string{"Check-Valid-Until": "no", "By-Hash": "force"},
		}, want: map[string]string{
			"/etc/apt/sources.list.d/example.sources": "# kept by trued\nX-Repolib-Name: Example\nEnabled: no\nTypes: deb deb-src\n" +
				"URIs: http://a.example.com/x http://b.example.com/x\nSuites: ./\nArchitectures: amd64 arm64\n" +
				"Signed-By: /usr/share/keyrings/other.gpg\nBy-Hash: force\nCheck-Valid-Until: no\n",
			"/etc/apt/preferences.d/example.pref": "# kept by trued\nPackage: nginx* php*\nPin: release o=Example\nPin-Priority: -1\n",
		}},
		"a key in line": {release: ofDebian, fill: debian(Resource{Key: armored(t, armorType, binary(t, key)), Fingerprint: fingerprint(key)}), want: map[string]string{
			"/etc/apt/keyrings/example.gpg": binary(t, key),
		}},
		"dnf": {release: ofRHEL, fill: Resource{URIs: []string{"https://packages.example.com/el/$releasever/"}, SignedBy: "files/key.gpg", Fingerprint: fingerprint(key)}, want: map[string]string{
			"/etc/yum.repos.d/example.repo": "# kept by trued\n[example]\nname=example\nbaseurl=https://packages.example.com/el/$releasever/\nenabled=1\n" +
				"gpgcheck=1\ngpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-example\n",
			"/etc/pki/rpm-gpg/RPM-GPG-KEY-example": armored(t, armorType, binary(t, key)),
		}},
		"zypper": {release: ofSUSE, had: "[example]\n", fill: Resource{URIs: []string{"https://a.example.com/", "https://b.example.com/"}, Enabled: &no, Options: map[string]string{"priority": "90"}}, want: map[string]string{
			"/etc/zypp/repos.d/example.repo": "# kept by trued\n[example]\nname=example\nbaseurl=https://a.example.com/\n\thttps://b.example.com/\nenabled=0\nautorefresh=1\npriority=90\n",
		}},
		"one to go":       {release: ofDebian, had: "Types: deb\n", fill: Resource{State: "absent"}, want: map[string]string{}},
		"a sensitive one": {release: ofDebian, fill: Resource{URIs: []string{"https://zaphod:beeblebrox@example.com/"}, Suites: []string{"/"}}, secret: "beeblebrox"},
	} {
		t.Run(name, func(t *testing.T) {
			h, root := newTree(t, c.release)
			if c.had != "" {
				for _, at := range []string{"/etc/apt/sources.list.d/example.sources", "/etc/zypp/repos.d/example.repo"} {
					put(t, root, at, c.had)
				}
			}
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource { return filled(m, c.fill) },
				Tree:     tree, Dirs: []string{root}, Offline: true, Secret: c.secret,
			})
			e, m := &resourcetest.Engine{Offline: true, Tree: tree}, New(h)
			r := filled(m, c.fill)
			r.Sensitive = c.secret != ""
			if err := errors.Join(e.Load(r), e.Converge(t.Context(), m, r)); err != nil {
				t.Fatal(err)
			}
			for at, want := range c.want {
				if got, err := os.ReadFile(filepath.Join(root, at)); err != nil || string(got) != want {
					t.Errorf("%s holds\n%s\nerror %v, want\n%s", at, got, err, want)
				}
			}
			if c.secret != "" {
				if info, err := os.Stat(filepath.Join(root, "/etc/apt/sources.list.d/example.sources")); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("its mode is %v, error %v", info.Mode(), err)
				}
			}
		})
	}
}

func TestAKeyIsWhatItsFingerprintSays(t *testing.T) {
	a, b := newKey(t, time.Hour, 0), newKey(t, time.Hour, 0)
	var private bytes.Buffer
	if err := a.SerializePrivate(&private, nil); err != nil {
		t.Fatal(err)
	}
	text := func(keys ...*openpgp.Entity) string { return armored(t, armorType, binary(t, keys...)) }
	spaced := fingerprint(a)[:4] + " " + fingerprint(a)[4:]
	for name, c := range map[string]struct {
		key, fingerprint string
		field, want      string
	}{
		"the right one":               {text(a), fingerprint(a), "", ""},
		"with spaces, in lower case":  {text(a), strings.ToLower(spaced), "", ""},
		"two keys":                    {text(a, b), fingerprint(b) + ", " + fingerprint(a), "", ""},
		"two keys in a block of each": {"of a:\n" + text(a) + "of b:\n" + text(b), fingerprint(b) + ", " + fingerprint(a), "", ""},
		"another":                     {text(a), fingerprint(b), "fingerprint", "and the key has " + fingerprint(a)},
		"none":                        {text(a), "", "fingerprint", fingerprint(a)},
		"one more key than is told":   {text(a, b), fingerprint(a), "fingerprint", fingerprint(b)},
		"a short id":                  {text(a), fingerprint(a)[32:], "fingerprint", "a shorter one tells nothing"},
		"a private key":               {armored(t, "PRIVATE KEY BLOCK", private.String()), fingerprint(a), "key", "there is a private key in it"},
		"a private key without armor": {private.String(), fingerprint(a), "key", "there is a private key in it"},
		"a private key as a public":   {armored(t, armorType, private.String()), fingerprint(a), "key", "there is a private key in it"},
		"a signature":                 {armored(t, "SIGNATURE", binary(t, a)), fingerprint(a), "key", "a public key is wanted"},
		"no key":                      {"<html>404</html>", fingerprint(a), "key", "OpenPGP key"},
		"half a key":                  {text(a)[:120], fingerprint(a), "key", "cannot be read"},
		"nothing":                     {" ", fingerprint(a), "key", "OpenPGP key"},
	} {
		h, _ := newTree(t, ofDebian)
		r := filled(New(h), debian(Resource{Key: c.key, Fingerprint: c.fingerprint}))
		if err := r.Load(resourcetest.Loader{}); err != nil {
			t.Fatal(err)
		}
		err := r.Validate()
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		var wrong *resource.FieldError
		if !errors.As(err, &wrong) || wrong.Field != c.field || !strings.Contains(wrong.Problem, c.want) {
			t.Errorf("%s: returned %v, want %s: %q", name, err, c.field, c.want)
		}
	}
}

func TestAKeyWhoseTimeIsOverIsRemarked(t *testing.T) {
	const day = 24 * time.Hour
	revoked := newKey(t, day, 0)
	if err := revoked.RevokeKey(packet.KeyCompromised, "lost", &packet.Config{DefaultHash: crypto.SHA512}); err != nil {
		t.Fatal(err)
	}
	for want, key := range map[string]*openpgp.Entity{
		"":            newKey(t, day, 0),
		"expired on ": newKey(t, 10*day, 9*day),
		"expires on ": newKey(t, 10*day, 12*day),
		"revoked":     revoked,
	} {
		h, _ := newTree(t, ofDebian)
		m, e := New(h), &resourcetest.Engine{Offline: true}
		r := filled(m, debian(Resource{Key: armored(t, armorType, binary(t, key)), Fingerprint: fingerprint(key)}))
		if err := errors.Join(e.Load(r), r.Validate()); err != nil {
			t.Fatal(err)
		}
		found, err := e.Check(t.Context(), m, r)
		if err != nil || !strings.Contains(found.Note, want) || (want == "") != (found.Note == "") {
			t.Errorf("the note is %q, error %v, want %q", found.Note, err, want)
		}
		if want != "" && !strings.Contains(found.Note, fingerprint(key)) {
			t.Errorf("the note %q does not say which key", found.Note)
		}
	}
}

// What was seen holds until another file may define the repository as well, and no
// longer than there is nothing to say of the key.
func TestAWitnessHoldsUntilThereMayBeARemark(t *testing.T) {
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		key    *openpgp.Entity
		change func(t *testing.T, root string)
		seen   bool
		holds  bool
	}{
		"nothing":             {newKey(t, day, 0), func(*testing.T, string) {}, true, true},
		"a key that ends":     {newKey(t, day, 60*day), func(*testing.T, string) {}, true, true},
		"a key that ends now": {newKey(t, 10*day, 12*day), nil, false, false},
		"another file": {newKey(t, day, 0), func(t *testing.T, root string) {
			put(t, root, "/etc/apt/sources.list.d/new.list", "deb https://packages.example.com/debian bookworm main\n")
		}, true, false},
		"another text": {newKey(t, day, 0), func(t *testing.T, root string) {
			put(t, root, "/etc/apt/sources.list", "deb https://packages.example.com/debian bookworm main\n")
		}, true, false},
		"its key": {newKey(t, day, 0), func(t *testing.T, root string) { put(t, root, "/etc/apt/keyrings/example.gpg", "x") }, true, false},
	} {
		h, root := newTree(t, ofDebian)
		put(t, root, "/etc/apt/sources.list", "# none\n")
		m, e := New(h), &resourcetest.Engine{Offline: true}
		r := filled(m, debian(Resource{Key: armored(t, armorType, binary(t, c.key)), Fingerprint: fingerprint(c.key)}))
		if err := errors.Join(e.Load(r), e.Converge(t.Context(), m, r)); err != nil {
			t.Fatal(err)
		}
		seen := e.Witness(t, m, r)
		if (seen != nil) != c.seen {
			t.Errorf("%s: the witness is %q", name, seen)
		}
		if seen == nil {
			continue
		}
		c.change(t, root)
		if got := New(h).(resource.Examiner).Holds(t.Context(), r.Name(), seen); got != c.holds {
			t.Errorf("%s: what was seen holds: %v", name, got)
		}
	}
	made := time.Now().Add(-20 * day)
	k := &keyring{keys: openpgp.EntityList{newKey(t, 20*day, 40*day)}}
	for _, c := range []struct{ now, next time.Duration }{{0, 26}, {26, 40}, {27, 40}, {40, 0}} {
		var want time.Time
		if c.next > 0 {
			want = made.Add(c.next * day)
		}
		got := k.next(made.Add(c.now*day + time.Minute))
		if c.next == 0 != got.IsZero() || c.next > 0 && got.Sub(want).Abs() > time.Minute {
			t.Errorf("after %d days the next remark is due at %s, want %s", c.now, got, want)
		}
	}
}

// A key that its owner revokes, or has last longer, is another desired state
// although its fingerprint is the same.
func TestAKeyThatChangedIsAnotherDesiredState(t *testing.T) {
	key := newKey(t, time.Hour, 0)
	desired := func() string {
		h, _ := newTree(t, ofDebian)
		r := filled(New(h), debian(Resource{Key: armored(t, armorType, binary(t, key)), Fingerprint: fingerprint(key)}))
		if err := r.Load(resourcetest.Loader{}); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	before := desired()
	if err := key.RevokeKey(packet.KeyCompromised, "lost", &packet.Config{DefaultHash: crypto.SHA512}); err != nil {
		t.Fatal(err)
	}
	if after := desired(); after == before {
		t.Errorf("both are %s", after)
	}
}

func TestASecondDefinitionIsRemarked(t *testing.T) {
	const fromX, fromAny, off = "/x", "", "off"
	for name, c := range map[string]struct {
		release, at, text, key string
		twice, clash           bool
	}{
		"a line":                       {ofDebian, "/etc/apt/sources.list.d/old.list", "deb [arch=amd64 signed-by=/x] https://packages.example.com/debian/ bookworm main # old\n", fromX, true, false},
		"a line, another key":          {ofDebian, "/etc/apt/sources.list.d/old.list", "deb-src [arch=amd64 signed-by=/y] https://packages.example.com/debian/ bookworm main\n", fromX, true, true},
		"a line, any key":              {ofDebian, "/etc/apt/sources.list.d/old.list", "deb https://packages.example.com/debian/ bookworm main\n", fromX, true, true},
		"a line before, any key":       {ofDebian, "/etc/apt/sources.list.d/early.list", "deb https://packages.example.com/debian/ bookworm main\n", fromX, true, false},
		"a line of the first, any key": {ofDebian, "/etc/apt/sources.list", "deb https://packages.example.com/debian/ bookworm main\n", fromX, true, false},
		"a line before, with a key":    {ofDebian, "/etc/apt/sources.list.d/early.list", "deb [signed-by=/y] https://packages.example.com/debian/ bookworm main\n", fromAny, true, true},
		"a line behind, with a key":    {ofDebian, "/etc/apt/sources.list.d/old.list", "deb [signed-by=/y] https://packages.example.com/debian/ bookworm main\n", fromAny, true, false},
		"a line of the first":          {ofDebian, "/etc/apt/sources.list", "deb https://packages.example.com/debian bookworm extra\n", fromAny, true, false},
		"a line, and it is off":        {ofDebian, "/etc/apt/sources.list.d/old.list", "deb [signed-by=/y] https://packages.example.com/debian/ bookworm main\n", off, true, false},
		"a stanza":                     {ofDebian, "/etc/apt/sources.list.d/old.sources", "Types: deb\nURIs: http://x.example.com\n https://packages.example.com/debian\nSuites: trixie bookworm\n", fromAny, true, false},
		"a stanza, another key":        {ofDebian, "/etc/apt/sources.list.d/old.sources", "Types: deb\nURIs: https://packages.example.com/debian\nSuites: bookworm\nSigned-By:\n -----BEGIN\n", fromX, true, true},
		"one that is off":              {ofDebian, "/etc/apt/sources.list.d/old.sources", "Enabled: no\nURIs: https://packages.example.com/debian\nSuites: bookworm\n", fromX, false, false},
		"one that is Off":              {ofDebian, "/etc/apt/sources.list.d/old.sources", "Enabled: Off\nURIs: https://packages.example.com/debian\nSuites: bookworm\n", fromX, false, false},
		"another suite":                {ofDebian, "/etc/apt/sources.list.d/old.list", "deb https://packages.example.com/debian trixie main\n", fromX, false, false},
		"a line that is off":           {ofDebian, "/etc/apt/sources.list", "# deb https://packages.example.com/debian bookworm main\n", fromX, false, false},
		"a section":                    {ofRHEL, "/etc/yum.repos.d/old.repo", "[other]\nname=x\n[example]\nname=y\n", fromAny, true, false},
		"another section":              {ofRHEL, "/etc/yum.repos.d/old.repo", "[other]\nname=x\n", fromAny, false, false},
	} {
		h, root := newTree(t, c.release)
		put(t, root, c.at, c.text)
		m, e := New(h), &resourcetest.Engine{Offline: true}
		fill := debian(Resource{SignedBy: c.key})
		if c.key == off {
			no := false
			fill = debian(Resource{SignedBy: fromX, Enabled: &no})
		}
		if c.release == ofRHEL {
			fill = Resource{URIs: []string{"https://x.example.com"}}
		}
		r := filled(m, fill)
		found, err := e.Check(t.Context(), m, r)
		var clash *ClashError
		if errors.As(err, &clash) != c.clash || (err == nil) == c.clash {
			t.Errorf("%s: returned %v", name, err)
		}
		if !c.clash && strings.Contains(found.Note, c.at+" defines it as well") != c.twice {
			t.Errorf("%s: the note is %q", name, found.Note)
		}
		// What another resource sees to is remarked alone, and so is what came later.
		e.Owner = func(claim resource.Claim) (resource.Address, bool) {
			return resource.Address{Kind: "file", Name: c.at}, claim == resource.Path(c.at)
		}
		for range 2 {
			found, err := e.Check(t.Context(), m, r)
			if err != nil || strings.Contains(found.Note, c.at+" defines it as well") != c.twice {
				t.Errorf("%s: the note is %q, error %v", name, found.Note, err)
			}
			if err := e.Converge(t.Context(), m, r); err != nil {
				t.Fatal(err)
			}
			e.Owner = nil
		}
	}
}

// A repository that is called something else from now on has its key elsewhere, and
// apt would read neither.
func TestARepositoryThatGetsAnotherNameTakesThePlaceOfTheFirst(t *testing.T) {
	h, root := newTree(t, ofDebian)
	key := newKey(t, time.Hour, 0)
	m, e := New(h), &resourcetest.Engine{Offline: true}
	called := func(name string) *Resource {
		fill := debian(Resource{Title: name, Key: armored(t, armorType, binary(t, key)), Fingerprint: fingerprint(key)})
		fill.Title = name
		r := filled(m, fill)
		if err := e.Load(r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	first, then := called("first"), called("then")
	if err := e.Converge(t.Context(), m, first); err != nil {
		t.Fatal(err)
	}
	gone, err := e.Absent(m, first)
	if err != nil {
		t.Fatal(err)
	}
	found, err := e.Check(t.Context(), m, then)
	if err != nil || !found.Diff.Has("state:/etc/apt/sources.list.d/first.sources") {
		t.Errorf("found %+v, error %v", found, err)
	}
	there := func() string {
		names, _ := filepath.Glob(root + "/etc/apt/*/*")
		for i, name := range names {
			names[i] = filepath.Base(name)
		}
		return strings.Join(names, " ")
	}
	if err := e.Converge(t.Context(), m, then); err != nil || there() != "first.gpg then.gpg then.sources" {
		t.Errorf("there is %q, error %v", there(), err)
	}
	if err := e.Leave(t.Context(), m, first, gone); err != nil || there() != "then.gpg then.sources" {
		t.Errorf("there is %q, error %v", there(), err)
	}
	if found, err := e.Check(t.Context(), m, then); err != nil || !found.InOrder() || found.Note != "" {
		t.Errorf("found %+v, error %v", found, err)
	}
	// What somebody puts there later is not what left.
	put(t, root, "/etc/apt/sources.list.d/first.sources", "Types: deb\nURIs: https://packages.example.com/debian\nSuites: bookworm\nSigned-By: /x\n")
	if found, err := e.Check(t.Context(), m, then); err != nil || !found.InOrder() || found.Note == "" {
		t.Errorf("with one that came later found %+v, error %v", found, err)
	}
}

func TestWhatThePackageManagerCannotDoIsAnError(t *testing.T) {
	for want, c := range map[string]struct {
		release string
		fill    Resource
	}{
		"suites: is missing":           {ofDebian, Resource{URIs: []string{"https://x.example.com"}}},
		"components: is missing":       {ofDebian, Resource{URIs: []string{"https://x.example.com"}, Suites: []string{"a"}}},
		"components: a suite":          {ofDebian, Resource{URIs: []string{"https://x.example.com"}, Suites: []string{"a/"}, Components: []string{"b"}}},
		"suites: is apt's alone":       {ofRHEL, Resource{URIs: []string{"https://x.example.com"}, Suites: []string{"a"}}},
		"pin: is apt's alone":          {ofSUSE, Resource{URIs: []string{"https://x.example.com"}, Pin: &Pin{Priority: 1}}},
		"repository: pacman's reposit": {"ID=arch\n", Resource{URIs: []string{"https://x.example.com"}}},
	} {
		h, _ := newTree(t, c.release)
		m, e := New(h), &resourcetest.Engine{Offline: true}
		if _, err := e.Check(t.Context(), m, filled(m, c.fill)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("returned %v, want %q", err, want)
		}
	}
}

func TestWrongValuesAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		change func(r *Resource)
		field  string
	}{
		"a path for a name":    {func(r *Resource) { r.Title = "a/b" }, "repository"},
		"no uri":               {func(r *Resource) { r.URIs = nil }, "uris"},
		"two in one":           {func(r *Resource) { r.URIs = []string{"http://a http://b"} }, "uris"},
		"no scheme":            {func(r *Resource) { r.URIs = []string{"packages.example.com"} }, "uris"},
		"credentials":          {func(r *Resource) { r.URIs = []string{"https://a:b@example.com"} }, "uris"},
		"two keys":             {func(r *Resource) { r.Key, r.SignedBy = "x", "y" }, "key"},
		"a key up the tree":    {func(r *Resource) { r.SignedBy = "/etc/../x" }, "signed_by"},
		"no key":               {func(r *Resource) { r.Fingerprint = strings.Repeat("A", 40) }, "fingerprint"},
		"two words":            {func(r *Resource) { r.Suites = []string{"a b"} }, "suites"},
		"another type":         {func(r *Resource) { r.Types = []string{"rpm"} }, "types"},
		"two lines":            {func(r *Resource) { r.Description = "a\nb" }, "description"},
		"a pin of no priority": {func(r *Resource) { r.Pin = &Pin{} }, "pin"},
		"a pin of two lines":   {func(r *Resource) { r.Pin = &Pin{Priority: 1, On: "a\nb"} }, "pin"},
		"a field of two lines": {func(r *Resource) { r.Options = map[string]string{"A": "b\nc"} }, "options"},
		"a known field":        {func(r *Resource) { r.Options = map[string]string{"Signed-By": "b"} }, "options"},
		"absent with more":     {func(r *Resource) { r.State = "absent" }, "state"},
		"another state":        {func(r *Resource) { r.State = "gone" }, "state"},
	} {
		r := debian(Resource{Title: "a"})
		c.change(&r)
		var wrong *resource.FieldError
		if err := r.Validate(); !errors.As(err, &wrong) || wrong.Field != c.field {
			t.Errorf("%s: returned %v, want an error in %s", name, err, c.field)
		}
	}
}

// What changes its key and loses its pin has the files of both right.
func TestAPinThatLeavesIsTakenAway(t *testing.T) {
	h, root := newTree(t, ofDebian)
	m, e := New(h), &resourcetest.Engine{Offline: true}
	with := filled(m, debian(Resource{Pin: &Pin{Priority: 100}}))
	without := filled(m, debian(Resource{}))
	for _, r := range []*Resource{with, without} {
		if err := errors.Join(e.Load(r), e.Converge(t.Context(), m, r)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Lstat(filepath.Join(root, "etc/apt/preferences.d/example.pref")); err == nil {
		t.Error("the pin is there still")
	}
}
