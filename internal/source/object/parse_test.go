package object

import (
	"testing"
	"time"
)

func TestCommitIsParsed(t *testing.T) {
	c, err := ParseCommit([]byte("tree ce013625030ba8dba906f756967f9e9ca394464a\nparent ce013625030ba8dba906f756967f9e9ca394464b\n" +
		"author Ada \x1b[31mLovelace <ada@example.com> 1700000000 +0200\ncommitter Bob <bob@example.com> 1700000100 +0000\n" +
		"gpgsig -----BEGIN\n parent x\n -----END\n\nA subject\n\nAnd more\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Subject != "A subject" || c.Email != "ada@example.com" || len(c.Parents) != 1 {
		t.Errorf("commit is %+v", c)
	}
	if c.Author != "Ada \uFFFD[31mLovelace" {
		t.Errorf("author is %q, with what a terminal obeys", c.Author)
	}
	if !c.Date.Equal(time.Unix(1700000000, 0)) || !c.Committed.Equal(time.Unix(1700000100, 0)) {
		t.Errorf("dates are %s and %s", c.Date, c.Committed)
	}
	for _, bad := range []string{"", "parent x\n", "tree x\n\n", "tree ce013625030ba8dba906f756967f9e9ca394464a\nparent y\n\n"} {
		if _, err := ParseCommit([]byte(bad)); err == nil {
			t.Errorf("commit %q was taken", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("tree ce013625030ba8dba906f756967f9e9ca394464a\nauthor A <a> 1 +0\n\nx"))
	f.Add([]byte("object ce013625030ba8dba906f756967f9e9ca394464a\ntype commit\n"))
	f.Add([]byte("100644 a\x00aaaaaaaaaaaaaaaaaaaa"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = ParseCommit(data)
		_, _, _ = ParseTag(data)
		entries, err := ParseTree(data)
		for _, e := range entries {
			if err == nil && checkName(e.Name) != nil {
				t.Errorf("name %q was taken", e.Name)
			}
		}
	})
}
