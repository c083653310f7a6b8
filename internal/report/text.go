package report

import (
	"bytes"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Bounds of what one event holds. With them an event stays below the 64 KiB
// that readers of the systemd journal take of a field.
const (
	maxMessage = 1 << 10
	maxError   = 8 << 10
	maxValue   = 1 << 10
	maxUnified = 4 << 10
	maxChanges = 32 << 10
	maxName    = 4 << 10
)

const ellipsis = "…"

// cut returns s in at most limit bytes, as valid UTF-8, and whether it was
// longer.
func cut(s string, limit int) (string, bool) {
	long := len(s) > limit
	if long {
		s = s[:limit-len(ellipsis)]
		// Do not leave half a character behind.
		for i := 0; i < utf8.UTFMax && len(s) > 0; i++ {
			if r, n := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || n != 1 {
				break
			}
			s = s[:len(s)-1]
		}
		s += ellipsis
	}
	return strings.ToValidUTF8(s, "\uFFFD"), long
}

func cutTo(s string, limit int) string {
	s, _ = cut(s, limit)
	return s
}

// oneLine returns s with everything that would break a line, or steer a
// terminal, escaped as in Go.
func oneLine(s string) string {
	s = strings.TrimSpace(strings.ToValidUTF8(public(s, maxMessage), "\uFFFD"))
	var b strings.Builder
	for _, r := range s {
		if r == ' ' || unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return cutTo(b.String(), maxMessage)
}

// Steers reports whether a terminal may obey a character in place of showing
// it, or show what follows it in another order.
func Steers(r rune) bool {
	return unicode.IsControl(r) && r != '\t' || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

// EscapeJSON returns JSON in which everything that steers a terminal is
// escaped: JSON itself lets half of it through. It is the same to a reader.
func EscapeJSON(text []byte) []byte {
	var b bytes.Buffer
	b.Grow(len(text))
	for _, r := range string(text) {
		if Steers(r) && r != '\n' {
			fmt.Fprintf(&b, `\u%04x`, r)
			continue
		}
		b.WriteRune(r)
	}
	return b.Bytes()
}

// public takes credentials out of URLs in running text, of which no more than
// limit bytes will be used. It looks further than that, lest a URL that is cut
// short of its `@` go unseen.
func public(s string, limit int) string {
	s = s[:min(len(s), 4*limit)]
	if !strings.Contains(s, "://") { // most have none
		return s
	}
	return userinfo().ReplaceAllString(s, "://")
}

// userinfo matches what stands between a URL's scheme and its host.
var userinfo = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`://[^/@\s"']+@`) })

// PublicURL returns a repository's URL without anything that could be a
// credential: no password, over HTTP no user and no query either.
func PublicURL(raw string) string {
	if !strings.Contains(raw, "://") {
		return raw // a path, or host:path as ssh has it: no room for a password
	}
	u, err := url.Parse(raw)
	if err != nil {
		scheme, rest, _ := strings.Cut(raw, "://")
		rest, _, _ = strings.Cut(rest, "?")
		return scheme + "://" + rest[strings.LastIndex(rest, "@")+1:]
	}
	u.RawQuery, u.Fragment, u.RawFragment, u.ForceQuery = "", "", "", false
	switch {
	case u.User == nil:
	case u.Scheme == "ssh" || u.Scheme == "git+ssh":
		u.User = url.User(u.User.Username())
	default:
		u.User = nil
	}
	return u.String()
}
