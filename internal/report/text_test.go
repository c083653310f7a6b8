package report

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPublicURLHasNoCredentials(t *testing.T) {
	for raw, want := range map[string]string{
		"":                                     "",
		"/srv/git/hosts.git":                   "/srv/git/hosts.git",
		"git@example.com:hosts.git":            "git@example.com:hosts.git",
		"https://example.com/hosts.git":        "https://example.com/hosts.git",
		"https://t0ken@example.com/h":          "https://example.com/h",
		"https://u:p%40ss@example.com/h":       "https://example.com/h",
		"https://example.com/h?token=t0ken#x":  "https://example.com/h",
		"ssh://git@example.com:22/h.git":       "ssh://git@example.com:22/h.git",
		"ssh://git:t0ken@example.com/h.git":    "ssh://git@example.com/h.git",
		"https://u:p%zz@example.com/h":         "https://example.com/h",
		"https://u:p%zz@example.com/h?t=t0ken": "https://example.com/h",
		"file:///srv/git/hosts.git":            "file:///srv/git/hosts.git",
	} {
		if got := PublicURL(raw); got != want {
			t.Errorf("PublicURL(%q) = %q, want %q", raw, got, want)
		}
	}
}

func TestOneLineIsOneLineThatSteersNoTerminal(t *testing.T) {
	for in, want := range map[string]string{
		"a\nb\r\n":                "a\\nb",
		"tab\there":               "tab\\there",
		"red \x1b[31m":            "red \\x1b[31m",
		"bad \xff byte":           "bad \uFFFD byte",
		"line\u2028separator":     "line\\u2028separator",
		"right\u202eto left":      "right\\u202eto left",
		"Größe, 大きさ":              "Größe, 大きさ",
		strings.Repeat("x", 5000): strings.Repeat("x", maxMessage-len(ellipsis)) + ellipsis,
	} {
		if got := oneLine(in); got != want {
			t.Errorf("oneLine(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestACutURLKeepsNoCredential(t *testing.T) {
	for n := maxMessage - 40; n < maxMessage+10; n++ {
		in := strings.Repeat("x", n) + " https://user:t0ken@example.com/h"
		if got := oneLine(in); strings.Contains(got, "user") || strings.Contains(got, "t0k") {
			t.Fatalf("after %d bytes: %q", n, got[n:])
		}
	}
}

func FuzzCut(f *testing.F) {
	f.Add("Größe 大きさ", 10)
	f.Add("\xff\xfe\xfd\xfc\xfb\xfa", 5)
	f.Add("", 3)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		if limit < len(ellipsis) || limit > 1<<16 {
			return
		}
		got, long := cut(s, limit)
		if !utf8.ValidString(got) || long != (len(s) > limit) {
			t.Errorf("cut(%q, %d) = %q, %v", s, limit, got, long)
		}
		// Bytes that are no text may grow to their replacement.
		if utf8.ValidString(s) && len(got) > limit {
			t.Errorf("cut(%q, %d) is %d bytes long", s, limit, len(got))
		}
		if line := oneLine(s); strings.ContainsAny(line, "\n\r\x00\x1b") || len(line) > maxMessage {
			t.Errorf("oneLine(%q) = %q", s, line)
		}
	})
}
