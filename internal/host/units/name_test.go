package units

import (
	"strings"
	"testing"
)

func TestNameProblemSuggestsTheRightSpelling(t *testing.T) {
	for name, want := range map[string]string{
		"nginx":                               `write "nginx.service"`,
		"nginx.conf":                          `write "nginx.conf.service"`,
		"getty@tty2":                          `write "getty@tty2.service"`,
		"/srv/my-data":                        `"srv-my\\x2ddata.mount"`,
		"a b.service":                         `write "a\\x20b.service"`,
		"a/b.timer":                           `write "a-b.timer"`,
		"ü.service":                           `write "\\xc3\\xbc.service"`,
		".service":                            "no name",
		"@x.service":                          "no name",
		"":                                    "does not say",
		strings.Repeat("x", 300) + ".service": "longer than 255",
	} {
		if got := NameProblem(name); !strings.Contains(got, want) {
			t.Errorf("NameProblem(%.40q) = %q, want it to say %q", name, got, want)
		}
	}
}

func TestNameProblemTakesWhatSystemdTakes(t *testing.T) {
	for _, name := range []string{
		"nginx.service", "getty@tty2.service", "getty@.service", "srv-my\\x2ddata.mount", "logrotate.timer",
		"-.mount", "a@b@c.service", "dev-disk-by\\x2dlabel-root.device", "user.slice", "x.y_z:1.socket",
	} {
		if got := NameProblem(name); got != "" {
			t.Errorf("NameProblem(%q) = %q", name, got)
		}
	}
}

func TestDropInDirsAreThoseOfInstanceTemplatePrefixAndType(t *testing.T) {
	got := strings.Join(dropInDirs("foo-bar-baz@i.service"), " ")
	want := "foo-bar-baz@i.service.d foo-bar-baz@.service.d foo-bar-.service.d foo-.service.d service.d"
	if got != want {
		t.Errorf("drop-in directories are %s, want %s", got, want)
	}
}

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "a", "/srv/my data", ".hidden", `back\slash`, "ü\x00\xff", "-", "a-b", `\x2d`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		part := Escape(text)
		if back := Unescape(part); back != text {
			t.Errorf("%q becomes %q, which becomes %q", text, part, back)
		}
		if len(part) > 0 && len(part) < 200 && !strings.HasPrefix(part, "@") {
			if p := NameProblem("x" + part + ".service"); p != "" {
				t.Errorf("%q, escaped from %q, is no part of a name: %s", part, text, p)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"[Unit]\nDescription=x\n", "[Service]\nExecStart=/bin/a \\\n  b\n", "a=b", "[x", "\\\n\\", "[Install]\nWantedBy=\n", ";c\n#d\n[",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		lines, err := parse(text)
		if err != nil {
			tolerant(text)
			return
		}
		for _, l := range lines {
			if l.section == "" && !strings.Contains(text, "[]") || l.number < 1 {
				t.Errorf("line %+v of %q has no place", l, text)
			}
		}
	})
}

func TestAUnitFileIsReadAsSystemdReadsIt(t *testing.T) {
	for text, want := range map[string]string{
		"[S]\nA=1 \\\n  2\nB=3\n":              "A=1    2 B=3",
		"[S]\nA=1 \\\n# aside\n;too\n2\nB=3\n": "A=1  2 B=3",
		"[S]\nA=1\\\\\nB=3\n":                  `A=1\\ B=3`,
		"[S]\nA=1\\ \nB=3\n":                   `A=1\ B=3`,
		"[S]\n# aside \\\nB=3\n":               "B=3",
		"[S]\nA=1\\\n\nB=3\n":                  "A=1 B=3",
		"[S]\r\nA=1\\\r\n2\r\nB=3\r\n":         "A=1 2 B=3",
		"[S]\n\\\nA=1\n":                       "A=1",
	} {
		settings, whole := Settings(text)
		var got []string
		for _, s := range settings {
			got = append(got, s.Key+"="+s.Value)
		}
		if !whole || strings.Join(got, " ") != want {
			t.Errorf("%q is read as %q (whole: %v), want %q", text, strings.Join(got, " "), whole, want)
		}
	}
	for _, text := range []string{"[S]\nA=1\rB=2\n", "[S]\nA=1\x00B=2\n", "[S]\nA\n"} {
		if _, whole := Settings(text); whole {
			t.Errorf("%q is said to be read as a whole", text)
		}
	}
}
