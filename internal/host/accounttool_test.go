package host

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// program writes a program that counts its calls in a file beside it.
func program(t *testing.T, body string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "tool")
	text := "#!/bin/sh\necho \"$@\" >>" + name + ".calls\n" + body + "\n"
	if err := os.WriteFile(name, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestAProgramThatFoundAccountsLockedIsTriedAgain(t *testing.T) {
	tool := program(t, `test $(wc -l <$0.calls) -gt 2 || { echo "cannot lock /etc/passwd; try again later." >&2; exit 1; }`)
	h := New("/", Options{})
	if err := h.RunAccountTool(t.Context(), AccountTool{Args: []string{tool, "x"}}); err != nil {
		t.Fatal(err)
	}
	if calls, err := os.ReadFile(tool + ".calls"); err != nil || string(calls) != "x\nx\nx\n" {
		t.Errorf("it was called with %q, error %v", calls, err)
	}
}

func TestAnErrorOfASensitiveCallSaysNothing(t *testing.T) {
	tool := program(t, "cat; exit 3")
	err := New("/", Options{}).RunAccountTool(t.Context(), AccountTool{
		Args: []string{tool, "s3cr3t"}, Stdin: "s3cr3t", Sensitive: true,
	})
	var failed *CommandError
	if !errors.As(err, &failed) || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("returned %v", err)
	}
}

func TestAccountFilesAreReadAsTheyAre(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"passwd": "root:x:0:0:root:/root:/bin/bash\n# a remark:x:1:1:::\nbroken\n+::::::\nx:x:many:0:::\r\nlast:x:7:8:L:/l:/bin/sh",
		"group":  "root:x:0:\nmany:x:5:a,b, c\n\n",
		"shadow": "last:!$6$x:19000:0:99999:7::20000:\n",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Join(root, "etc"), 0o755),
			os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	h := New(root, Options{})
	u, ok, err := h.FindUser("last")
	if want := (UserEntry{"last", 7, 8, "L", "/l", "/bin/sh"}); err != nil || !ok || u != want {
		t.Errorf("the user is %+v, %v, error %v", u, ok, err)
	}
	if all, err := h.Users(); err != nil || len(all) != 2 {
		t.Errorf("the users are %+v, error %v", all, err)
	}
	g, ok, err := h.FindGroup("many")
	if err != nil || !ok || g.GID != 5 || strings.Join(g.Members, " ") != "a b c" {
		t.Errorf("the group is %+v, %v, error %v", g, ok, err)
	}
	s, ok, err := h.Shadow("last")
	if want := (ShadowEntry{"last", "!$6$x", "20000"}); err != nil || !ok || s != want {
		t.Errorf("the password is %+v, %v, error %v", s, ok, err)
	}
	if _, ok, err := New(t.TempDir(), Options{}).FindUser("root"); ok || err != nil {
		t.Errorf("without a file found %v, error %v", ok, err)
	}
}
