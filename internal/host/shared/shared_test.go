package shared

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// A part appends one line, or fails.
type part struct {
	resource.Meta
	line     string
	validate string
	fails    bool
}

func (p *part) Name() string             { return p.line }
func (p *part) Validate() error          { return nil }
func (p *part) Claims() []resource.Claim { return nil }
func (p *part) Place() Place {
	return Place{Path: "/etc/x", Field: "text", Validate: p.validate, Sensitive: p.Sensitive, Private: p.Sensitive}
}

func (p *part) Edit(text *Text, _ resource.View) error {
	if p.fails {
		return errors.New("cannot be put there")
	}
	if text.Index(p.line) < 0 {
		text.Insert(text.Len(), p.line)
	}
	return nil
}

func (p *part) Check(ctx context.Context, view resource.View) (resource.Finding, error) {
	return resource.Finding{}, ctx.Err()
}

func (p *part) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	return resource.Result{}, ctx.Err()
}

// transact puts parts into a file that holds one line, and returns what it holds
// then and how often a new file was looked at.
func transact(t *testing.T, parts ...*part) (text string, looks int, results []resource.ItemResult) {
	t.Helper()
	root := t.TempDir()
	name, count := filepath.Join(root, "etc/x"), filepath.Join(root, "count")
	if err := errors.Join(os.Mkdir(filepath.Dir(name), 0o755), os.WriteFile(name, []byte("first"), 0o640)); err != nil {
		t.Fatal(err)
	}
	h := host.New(root, host.Options{})
	var items []resource.Item
	for _, p := range parts {
		p.validate = `sh -c 'echo look >>` + count + `; ! grep bad "$1"' sh {path}`
		items = append(items, resource.Item{Resource: p, Found: resource.Finding{Diff: resource.Diff{{Field: "text"}}}})
	}
	results = Transact(t.Context(), h, items)
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	looked, _ := os.ReadFile(count)
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the file is %v, error %v", info, err)
	}
	return string(got), strings.Count(string(looked), "look"), results
}

func TestASecretIsNotPutIntoAFileThatEveryoneMayRead(t *testing.T) {
	root := t.TempDir()
	name := filepath.Join(root, "etc/x")
	if err := errors.Join(os.Mkdir(filepath.Dir(name), 0o755), os.WriteFile(name, []byte("first\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	h := host.New(root, host.Options{})
	secret := &part{line: "s3cr3t", Meta: resource.Meta{Sensitive: true}}
	plain := &part{line: "plain"}
	diff := resource.Finding{Diff: resource.Diff{{Field: "text"}}}
	for _, mode := range []os.FileMode{0o644, 0o604, 0o602} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		var open *host.PrivateError
		if _, err := Check(t.Context(), h, secret, resource.View{}, nil); !errors.As(err, &open) || open.Path != "/etc/x" {
			t.Errorf("%v: Check: %v", mode, err)
		}
		owner := func(resource.Claim) (resource.Address, bool) {
			return resource.Address{Kind: "file", Name: "/etc/x"}, true
		}
		found, err := Check(t.Context(), h, secret, resource.View{Owner: owner}, nil)
		if err != nil || !strings.Contains(found.Unknown, "file:/etc/x") {
			t.Errorf("%v: Check of a file that is managed: %+v, %v", mode, found, err)
		}
		results := Transact(t.Context(), h, []resource.Item{{Resource: secret, Found: diff}, {Resource: plain, Found: diff}})
		if !errors.As(results[0].Err, &open) || results[1].Err != nil {
			t.Errorf("%v: Transact: %v, %v", mode, results[0].Err, results[1].Err)
		}
		if got, _ := os.ReadFile(name); string(got) != "first\nplain\n" {
			t.Errorf("%v: the file holds %q", mode, got)
		}
		// It became everyone's after it was read.
		err = h.WriteFile(t.Context(), "/etc/x", host.FileSpec{Content: resource.Bytes([]byte("s3cr3t")), Follow: true, Private: true})
		if !errors.As(err, &open) {
			t.Errorf("%v: WriteFile: %v", mode, err)
		}
	}
	if err := os.Chmod(name, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(t.Context(), h, secret, resource.View{}, nil); err != nil {
		t.Error(err)
	}
	if r := Transact(t.Context(), h, []resource.Item{{Resource: secret, Found: diff}}); r[0].Err != nil {
		t.Error(r[0].Err)
	}
}

// Beside a part there may be a secret, of somebody else's or of another part.
func TestWhatIsBesideAPartInAFileThatIsNotEveryonesIsNotShown(t *testing.T) {
	root := t.TempDir()
	name := filepath.Join(root, "etc/x")
	if err := errors.Join(os.Mkdir(filepath.Dir(name), 0o755), os.WriteFile(name, []byte("a = 1\npassword = s3cr3t\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	h := host.New(root, host.Options{})
	plain := &part{line: "plain", validate: "grep -v nothing {path} /none"}
	for mode, shown := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o644: true} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		found, err := Check(t.Context(), h, plain, resource.View{}, nil)
		if err != nil || len(found.Diff) != 1 || !strings.Contains(found.Diff[0].Unified, "+plain") {
			t.Fatalf("%v: %+v, error %v", mode, found.Diff, err)
		}
		if got := strings.Contains(found.Diff[0].Unified, "s3cr3t"); got != shown {
			t.Errorf("%v: the difference is %s", mode, found.Diff[0].Unified)
		}
		err = Transact(t.Context(), h, []resource.Item{{Resource: plain, Found: found}})[0].Err
		if err == nil || strings.Contains(err.Error(), "s3cr3t") != shown {
			t.Errorf("%v: validate: %v", mode, err)
		}
	}
}

func TestManyPartsAreWrittenAtOnce(t *testing.T) {
	text, looks, results := transact(t, &part{line: "a"}, &part{line: "b"}, &part{line: "c"})
	for _, r := range results {
		if r.Err != nil {
			t.Error(r.Err)
		}
	}
	if text != "first\na\nb\nc\n" || looks != 1 {
		t.Errorf("the file is %q after %d writes", text, looks)
	}
}

func TestAPartThatCannotBeKeepsNoOtherAway(t *testing.T) {
	text, looks, results := transact(t, &part{line: "a"}, &part{line: "b", fails: true}, &part{line: "c"})
	if results[0].Err != nil || results[1].Err == nil || results[2].Err != nil {
		t.Errorf("the results are %v", results)
	}
	if text != "first\na\nc\n" || looks != 1 {
		t.Errorf("the file is %q after %d writes", text, looks)
	}
}

func TestAPartThatIsNotAcceptedKeepsNoOtherAway(t *testing.T) {
	text, _, results := transact(t, &part{line: "a"}, &part{line: "bad"}, &part{line: "c"})
	if results[0].Err != nil || results[1].Err == nil || results[2].Err != nil {
		t.Errorf("the results are %v", results)
	}
	if text != "first\na\nc\n" {
		t.Errorf("the file is %q", text)
	}
}

func TestATextStaysAsItIsToTheByte(t *testing.T) {
	for _, s := range []string{"", "\n", "a", "a\n", "a\r\nb\nc", "\r\n\r\n", "a\rb\n", "\xff\xfe\n"} {
		if got := Parse(s).String(); got != s {
			t.Errorf("%q became %q", s, got)
		}
	}
}

func TestALineThatIsSetKeepsItsEnd(t *testing.T) {
	text := Parse("a\r\nb\nc")
	for i := range text.Len() {
		text.Set(i, "x")
	}
	if got := text.String(); got != "x\r\nx\nx" {
		t.Errorf("the text is %q", got)
	}
	text.Insert(3, "y")
	text.Unclose()
	if got := text.String(); got != "x\r\nx\nx\r\ny" || !text.Open() {
		t.Errorf("the text is %q", got)
	}
}
