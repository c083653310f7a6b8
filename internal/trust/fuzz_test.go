package trust

import (
	"testing"
	"time"

	"trued.dev/trued/internal/source/object"
)

const aKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPL9GLrLjNCbB9wNyYNhvBZ4E3YAAQXr0nHKvBJfKPq"

func FuzzSigners(f *testing.F) {
	f.Add([]byte("ada@example.com,*@example.org namespaces=\"git,file\",valid-after=\"20240101\",valid-before=\"20250101Z\" " + aKey + " Ada\n"))
	f.Add([]byte("\"a b\" cert-authority " + aKey + "\n# a remark\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := ParseSigners(data, time.UTC)
		again := ParseSigners(data, time.UTC)
		if len(s.lines) != len(again.lines) || len(s.Problems) != len(again.Problems) {
			t.Error("the same file is read in two ways")
		}
		for _, l := range s.lines {
			if l.key == nil {
				t.Errorf("line %d lists nobody", l.number)
			}
			_, why := s.check(l.key, namespace, "", "", time.Unix(1<<30, 0))
			if why != nil && why.Reason == UnknownKey && !l.authority && l.name("") != "" {
				t.Errorf("line %d lists a key that is not known", l.number)
			}
		}
	})
}

func FuzzRevocations(f *testing.F) {
	f.Add([]byte(aKey + "\n"))
	f.Add([]byte(krlMagic + "\x00\x00\x00\x01" + "\x00\x00\x00\x00\x00\x00\x00\x01" + "\x00\x00\x00\x00\x00\x00\x00\x02" +
		"\x00\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00" + "\x02\x00\x00\x00\x05\x00\x00\x00\x01k"))
	key, err := parseKey(aKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRevocations(data)
		if err == nil && r == nil {
			t.Error("neither a list nor an error")
		}
		if err == nil {
			r.has(key)
		}
	})
}

func FuzzCommit(f *testing.F) {
	f.Add([]byte("tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nparent 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n" +
		"author A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\ngpgsig -----BEGIN\n \n abc\n -----END\n\nA message\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseCommit(object.ID{}, data)
		if err != nil {
			return
		}
		if len(c.payload) > len(data) || c.signature == nil && string(c.payload) != string(data) {
			t.Errorf("what is signed is %q", c.payload)
		}
	})
}

func FuzzMoment(f *testing.F) {
	f.Add("20240101")
	f.Add("202401011200Z")
	f.Add("20240231235960utc")
	f.Fuzz(func(t *testing.T, s string) {
		if at, err := parseMoment(s, time.UTC); err == nil && at.Unix() < 0 {
			t.Errorf("%q is %s", s, at)
		}
	})
}

func FuzzPattern(f *testing.F) {
	f.Add("ada@example.com", "*@example.com,!bob@*")
	f.Fuzz(func(t *testing.T, s, list string) {
		if len(s) > 200 || len(list) > 200 {
			return
		}
		if matchList(s, list) && matchList(s, list+",!*") {
			t.Error("what is ruled out is matched")
		}
	})
}

func FuzzOpenPGP(f *testing.F) {
	f.Add([]byte("-----BEGIN PGP SIGNATURE-----\n\niHUEABYKAB0=\n-----END PGP SIGNATURE-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := ParseKeyring(data)
		if err != nil {
			k = &Keyring{}
		}
		if _, why := k.verify(data, nil, time.Unix(1<<30, 0), time.Unix(1<<30, 0)); why == nil {
			t.Error("a signature of nothing is a good one")
		}
	})
}
