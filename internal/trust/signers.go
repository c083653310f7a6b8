package trust

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// Signers are the lines of a file as ssh-keygen(1) describes it under ALLOWED
// SIGNERS.
type Signers struct {
	lines []signerLine
	// Problems are the lines that are not understood. They list nobody.
	Problems []error
}

type signerLine struct {
	number int
	// principals and namespaces are lists of patterns.
	principals string
	authority  bool
	namespaces *string
	// after and before bound the time of a signature; zero is no bound.
	after, before time.Time
	key           ssh.PublicKey
}

// maxSigners bounds what is read as a list of signers.
const maxSigners = 1 << 20

// ParseSigners reads the file. Times without a zone are in the given one.
func ParseSigners(data []byte, zone *time.Location) *Signers {
	s := &Signers{}
	if len(data) > maxSigners {
		s.Problems = append(s.Problems, fmt.Errorf("it has more than %d bytes", maxSigners))
		return s
	}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.Trim(line, blanks)
		if line == "" || line[0] == '#' {
			continue
		}
		l, err := parseSigner(line, zone)
		if err != nil {
			s.Problems = append(s.Problems, fmt.Errorf("line %d: %w", number, err))
			continue
		}
		l.number = number
		s.lines = append(s.lines, l)
	}
	return s
}

// Len is the number of lines that list somebody.
func (s *Signers) Len() int { return len(s.lines) }

const blanks = " \t\r\n"

func parseSigner(line string, zone *time.Location) (signerLine, error) {
	l := signerLine{}
	var rest string
	var err error
	if l.principals, rest, err = firstWord(line); err != nil {
		return l, err
	}
	if rest == "" {
		return l, errors.New("there is no key in it")
	}
	if l.key, err = parseKey(rest); err == nil {
		return l, nil
	}
	options, rest, err := cutOptions(rest)
	if err != nil {
		return l, err
	}
	if rest == "" {
		return l, errors.New("there is no key in it")
	}
	if l.key, err = parseKey(rest); err != nil {
		return l, err
	}
	return l, l.take(options, zone)
}

// firstWord cuts off a word, which may be in quotes.
func firstWord(s string) (word, rest string, err error) {
	if quoted, ok := strings.CutPrefix(s, `"`); ok {
		word, rest, ok = strings.Cut(quoted, `"`)
		if !ok {
			return "", "", errors.New("a quote is not closed")
		}
		return word, strings.TrimLeft(rest, blanks), nil
	}
	end := strings.IndexAny(s, blanks)
	if end < 0 {
		return s, "", nil
	}
	return s[:end], strings.TrimLeft(s[end:], blanks), nil
}

// cutOptions cuts off what ends at a blank outside of quotes.
func cutOptions(s string) (options, rest string, err error) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == '"':
			i++
		case s[i] == '"':
			quoted = !quoted
		case !quoted && (s[i] == ' ' || s[i] == '\t'):
			return s[:i], strings.TrimLeft(s[i:], " \t"), nil
		}
	}
	if quoted {
		return "", "", errors.New("a quote is not closed")
	}
	return s, "", nil
}

// take reads the options, which go by their names in any case.
func (l *signerLine) take(options string, zone *time.Location) error {
	for options != "" {
		var err error
		switch name, value := optionName(options); name {
		case "cert-authority":
			l.authority, options = true, value
		case "namespaces=":
			if l.namespaces != nil {
				return errors.New(`"namespaces" is there twice`)
			}
			var list string
			list, options, err = dequote(value)
			l.namespaces = &list
		case "valid-after=":
			options, err = takeMoment(&l.after, "valid-after", value, zone)
		case "valid-before=":
			options, err = takeMoment(&l.before, "valid-before", value, zone)
		default:
			return fmt.Errorf("option %q is unknown", options)
		}
		if err != nil {
			return err
		}
		if options == "" {
			break
		}
		next, ok := strings.CutPrefix(options, ",")
		if !ok || next == "" {
			return fmt.Errorf("option %q is unknown", options)
		}
		options = next
	}
	if !l.after.IsZero() && !l.before.IsZero() && !l.after.Before(l.before) {
		return errors.New(`"valid-before" is not after "valid-after"`)
	}
	return nil
}

func optionName(options string) (name, value string) {
	for _, name := range []string{"cert-authority", "namespaces=", "valid-after=", "valid-before="} {
		if len(options) >= len(name) && strings.EqualFold(options[:len(name)], name) {
			return name, options[len(name):]
		}
	}
	return "", options
}

func takeMoment(to *time.Time, name, value string, zone *time.Location) (rest string, err error) {
	if !to.IsZero() {
		return "", fmt.Errorf("%q is there twice", name)
	}
	text, rest, err := dequote(value)
	if err != nil {
		return "", err
	}
	*to, err = parseMoment(text, zone)
	if err == nil && to.Unix() == 0 {
		err = fmt.Errorf("%q is no time", text)
	}
	return rest, err
}

// dequote reads a value, which must be in quotes.
func dequote(s string) (value, rest string, err error) {
	s, ok := strings.CutPrefix(s, `"`)
	if !ok {
		return "", "", errors.New("the value of an option is not in quotes")
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:], nil
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == '"':
			i++
		}
		b.WriteByte(s[i])
	}
	return "", "", errors.New("a quote is not closed")
}

// parseKey reads "TYPE BASE64 COMMENT".
func parseKey(s string) (ssh.PublicKey, error) {
	kind, rest, _ := strings.Cut(s, " ")
	if tab := strings.IndexByte(s, '\t'); tab >= 0 && tab < len(kind) {
		kind, rest = s[:tab], s[tab:]
	}
	text, _, err := firstWord(strings.TrimLeft(rest, blanks))
	if err != nil {
		return nil, err
	}
	blob, err := base64.StdEncoding.DecodeString(text)
	if err != nil || text == "" {
		return nil, fmt.Errorf("there is no key in %q", shorten(s))
	}
	return publicKey(kind, blob)
}

// publicKey reads a key whose type is known from elsewhere, too.
func publicKey(kind string, blob []byte) (ssh.PublicKey, error) {
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return nil, fmt.Errorf("a key cannot be read: %w", err)
	}
	if kind != "" && key.Type() != kind {
		return nil, fmt.Errorf("a key says that it is %q, and is %q", kind, key.Type())
	}
	return key, nil
}

func shorten(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

func sameKey(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }

// check looks for a line that lists who has signed. An identity limits it to the
// lines, and for a certificate to the principals, of that one; with none any will
// do. It returns by which principal it is. hint is what a signer says to be, and
// is told where a pattern matches it.
func (s *Signers) check(key ssh.PublicKey, namespace, identity, hint string, at time.Time) (string, *Refusal) {
	why := refuse(UnknownKey, "key %s is not listed", ssh.FingerprintSHA256(key))
	for i := range s.lines {
		l := &s.lines[i]
		if identity != "" && !matchList(identity, l.principals) {
			continue
		}
		principal, refusal := l.check(key, namespace, identity, hint, at)
		if refusal == nil && principal != "" {
			return principal, nil
		}
		if refusal != nil {
			why = refusal
		}
	}
	if why.Reason == UnknownKey && len(s.Problems) > 0 {
		why.Detail += fmt.Sprintf("; %d lines of the list are not understood, such as %v", len(s.Problems), s.Problems[0])
	}
	return "", why
}

// check returns no principal and no refusal for a line of another key.
func (l *signerLine) check(key ssh.PublicKey, namespace, identity, hint string, at time.Time) (string, *Refusal) {
	cert, _ := key.(*ssh.Certificate)
	principal := ""
	switch {
	case !l.authority && sameKey(l.key, key):
		if principal = identity; principal == "" {
			principal = l.name(hint)
		}
		if principal == "" {
			return "", nil
		}
	case l.authority && cert != nil && sameKey(l.key, cert.SignatureKey):
		var refusal *Refusal
		if principal, refusal = l.certified(cert, identity, hint, at); refusal != nil {
			return "", refusal
		}
	default:
		return "", nil
	}
	if l.namespaces != nil && !matchList(namespace, *l.namespaces) {
		return "", refuse(NotPermitted, "the key is listed, but not for signatures in the namespace %q", namespace).by(principal)
	}
	if !l.after.IsZero() && at.Before(l.after) {
		return "", refuse(NotYetValid, "the key was not valid on %s: it is from %s on", shown(at), shown(l.after)).by(principal)
	}
	if !l.before.IsZero() && at.After(l.before) {
		return "", refuse(Expired, "the key was not valid on %s: it was until %s", shown(at), shown(l.before)).by(principal)
	}
	return principal, nil
}

func shown(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// name is who a line is of: the one who says so, where the line means that one
// too, or else the first that it names and does not rule out; nobody where there is
// none.
func (l *signerLine) name(hint string) string {
	if hint != "" && matchList(hint, l.principals) {
		return hint
	}
	for p := range strings.SplitSeq(l.principals, ",") {
		if p != "" && p[0] != '!' && matchList(p, l.principals) {
			return p
		}
	}
	return ""
}

// certified checks a certificate of an authority.
func (l *signerLine) certified(cert *ssh.Certificate, identity, hint string, at time.Time) (string, *Refusal) {
	if cert.CertType != ssh.UserCert {
		return "", refuse(NotPermitted, "its certificate is not one of a user").by(cert.KeyId)
	}
	principals := cert.ValidPrincipals
	if identity != "" {
		principals = []string{identity}
	} else if hint != "" {
		principals = append([]string{hint}, principals...)
	}
	why := refuse(NotPermitted, "its certificate is for nobody that the authority may speak for").by(cert.KeyId)
	for _, p := range principals {
		if !matchList(p, l.principals) {
			continue
		}
		err := checkerAt(at, cert).CheckCert(p, cert)
		if err == nil {
			return p, nil
		}
		seconds := uint64(max(0, at.Unix()))
		switch {
		case seconds < cert.ValidAfter:
			why = refuse(NotYetValid, "its certificate was not valid on %s yet", shown(at)).by(p)
		case seconds >= cert.ValidBefore:
			why = refuse(Expired, "its certificate was not valid on %s any more", shown(at)).by(p)
		}
	}
	return "", why
}

// checkerAt has no opinion on what a certificate limits logins to.
func checkerAt(at time.Time, cert *ssh.Certificate) *ssh.CertChecker {
	return &ssh.CertChecker{
		Clock:                    func() time.Time { return at },
		SupportedCriticalOptions: slices.Collect(maps.Keys(cert.CriticalOptions)),
	}
}
