package culprit

import (
	"strings"
	"testing"
	"time"
	"unicode"
)

func TestTheHintIsOneLine(t *testing.T) {
	now := time.Date(2026, 11, 28, 3, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for want, c := range map[string]Culprit{
		"edited by vim (pid 712), by alice behind sudo, 2 s before": {
			What: "edited", PID: 712, Executable: "/usr/bin/vim.basic", Comm: "vim", User: "root", LoginUser: "alice", Via: "sudo", Unit: "session-3.scope", When: ago(2 * time.Second)},
		"removed by rm (pid 9), by root, less than 1 s before": {
			What: "removed", PID: 9, Executable: "/usr/bin/rm", Comm: "rm", User: "root", LoginUser: "root", When: ago(time.Millisecond)},
		"edited by deploy.sh (pid 9) of cron.service, by root, 14 min before": {
			What: "edited", PID: 9, Executable: "/usr/bin/dash", Comm: "deploy.sh", User: "root", Unit: "cron.service", When: ago(14 * time.Minute)},
		"edited by cp (pid 9), by alice as root, 3 h before": {
			What: "edited", PID: 9, Executable: "/usr/bin/cp", User: "root", LoginUser: "alice", When: ago(3 * time.Hour)},
		"edited by cp (pid 9), by alice behind sudo as bob, 3 s before": {
			What: "edited", PID: 9, Executable: "/usr/bin/cp", User: "bob", LoginUser: "alice", Via: "sudo", When: ago(3 * time.Second)},
		"replaced by pid 4711, gone since, 5 s before": {What: "replaced", PID: 4711, When: ago(5 * time.Second)},
		"removed by apt-get, 5 s before":               {What: "removed", Comm: "apt-get", When: ago(5 * time.Second)},
		"edited by nginx (pid 9), 1 s before": {
			What: "edited", PID: 9, Executable: "/usr/sbin/nginx", Comm: "sshd", When: ago(time.Second)},
	} {
		if got := c.Text(now); got != want {
			t.Errorf("it says\n%q, want\n%q", got, want)
		}
	}
}

// A process may call itself what it likes, and a terminal is not to obey it.
func TestANameDoesNothingToATerminal(t *testing.T) {
	for name, want := range map[string]string{
		"vim":                     "vim",
		"größe 1":                 "größe 1",
		"\x1b[2Jcron":             `\x1b[2Jcron`,
		"a\nb\r\x07\x00":          `a\nb\r\a\x00`,
		"\u202eevil":              `\u202eevil`,
		"\u2028x\u0085":           `\u2028x\u0085`,
		"\xff\xfe":                `\xff\xfe`,
		"\uFFFD":                  "\uFFFD",
		strings.Repeat("ö", 3000): strings.Repeat("ö", 126) + "…",
	} {
		got := tame(name)
		if got != want {
			t.Errorf("%q is shown as %q, want %q", name, got, want)
		}
		if len(got) > most || strings.ContainsFunc(got, func(r rune) bool { return r != ' ' && !unicode.IsPrint(r) }) {
			t.Errorf("%q is shown as %q", name, got)
		}
	}
}

func FuzzTame(f *testing.F) {
	f.Add("vim\x1b[31m\u202e\xff")
	f.Fuzz(func(t *testing.T, name string) {
		got := tame(name)
		if len(got) > most || strings.ContainsFunc(got, func(r rune) bool { return r != ' ' && !unicode.IsPrint(r) && r != unicode.ReplacementChar }) {
			t.Errorf("%q is shown as %q", name, got)
		}
	})
}
