// Package culprit finds out who changed something on this host: which process,
// on whose behalf, and when.
//
// What it says is a hint, never proof. It is seen from outside and after the
// fact: a process may be gone before it is looked at, may call itself what it
// likes, and may act for another. Where the kernel or the right to look is
// missing, there is no hint, and nothing else is different.
//
// The room reads /proc, the logs of package managers and messages of the system
// bus, and writes nothing. Nothing that a process was given leaves it: no command
// line, no environment.
package culprit

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A Culprit is who most likely changed something. Everything but When may be
// missing.
type Culprit struct {
	// PID is the process that did it.
	PID int `json:"pid,omitempty"`
	// Executable is the program's path, Comm the name that the process goes by.
	Executable string `json:"executable,omitempty"`
	Comm       string `json:"comm,omitempty"`
	// User is whom the process ran as.
	User string `json:"user,omitempty"`
	// LoginUser is who logged in, or who stands behind Via.
	LoginUser string `json:"login_user,omitempty"`
	// Via is how the login user came by the rights of User: sudo, su …
	Via string `json:"via,omitempty"`
	// Unit is the unit of the service manager that the process was of.
	Unit string `json:"unit,omitempty"`
	// What was done, as one word or two: edited, removed, stopped.
	What string    `json:"what"`
	When time.Time `json:"when"`
}

// Text says it in one line for a person who reads it at a given time:
// "edited by vim (pid 712), by alice behind sudo, 2 s before".
func (c *Culprit) Text(now time.Time) string {
	s := c.What
	switch name := c.Name(); {
	case name != "" && c.PID != 0:
		s += fmt.Sprintf(" by %s (pid %d)", name, c.PID)
	case name != "":
		s += " by " + name
	case c.PID != 0:
		s += fmt.Sprintf(" by pid %d, gone since", c.PID)
	}
	if strings.HasSuffix(c.Unit, ".service") {
		s += " of " + c.Unit
	}
	if who := c.who(); who != "" {
		s += ", by " + who
	}
	return s + ", " + since(now.Sub(c.When)) + " before"
}

// Name is what people call the program. What a process calls itself counts where
// the program's own name says less: vim rather than vim.basic, and a script
// rather than its interpreter.
func (c *Culprit) Name() string {
	if c.Executable == "" {
		return c.Comm
	}
	name := path.Base(c.Executable)
	if c.Comm != "" && (strings.HasPrefix(name, c.Comm) || interprets(name)) {
		return c.Comm
	}
	return name
}

// interprets reports whether a program does what others are named for.
func interprets(name string) bool {
	for _, prefix := range []string{"sh", "bash", "dash", "zsh", "python", "perl", "ruby", "node", "php", "busybox", "coreutils"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// who names the person, as far as there is one.
func (c *Culprit) who() string {
	if c.LoginUser == "" || c.LoginUser == c.User {
		return c.User
	}
	s := c.LoginUser
	if c.Via != "" {
		s += " behind " + c.Via
	}
	if c.User != "" && (c.Via == "" || c.User != "root") {
		s += " as " + c.User
	}
	return s
}

// since is a span of time as people say it.
func since(d time.Duration) string {
	switch {
	case d < time.Second:
		return "less than 1 s"
	case d < 2*time.Minute:
		return strconv.Itoa(int(d/time.Second)) + " s"
	case d < 2*time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + " min"
	default:
		return strconv.Itoa(int(d/time.Hour)) + " h"
	}
}

// most is how many bytes of a name are kept.
const most = 256

// tame returns a name that a stranger chose as text of a bounded length that no
// terminal obeys: whatever is not printed is escaped, as in Go.
func tame(name string) string {
	var b strings.Builder
	for i, r := range name {
		var text string
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(name[i:], "\uFFFD"):
			text = fmt.Sprintf(`\x%02x`, name[i])
		case r == ' ' || unicode.IsPrint(r):
			text = string(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			text = quoted[1 : len(quoted)-1]
		}
		if b.Len()+len(text) > most-len("…") {
			return b.String() + "…"
		}
		b.WriteString(text)
	}
	return b.String()
}
