package secret

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"
)

// RecipientsFile says, in a repository, who may read the secrets of which groups.
const RecipientsFile = ".trued/recipients"

// maxRecipients bounds what one file may list.
const maxRecipients = 10_000

// A Recipient is somebody whom files can be encrypted for.
type Recipient struct {
	// Key is the public key: ssh-ed25519 AAAA…, ssh-rsa AAAA…, or age1….
	Key string
	// Name is what the line says after the key: a host, or a person.
	Name string
	// Tag is what age calls an SSH key; empty for age's own keys.
	Tag string

	recipient age.Recipient
}

// String is the name, or else the key.
func (r Recipient) String() string {
	if r.Name != "" {
		return r.Name
	}
	return r.Key
}

// Host is the host that the recipient is called after: SSH names a host's key
// root@HOST.
func (r Recipient) Host() string { return r.Name[strings.LastIndexByte(r.Name, '@')+1:] }

// ParseRecipient reads a public key and what follows it.
func ParseRecipient(text string) (Recipient, error) {
	fields := strings.Fields(text)
	switch {
	case len(fields) == 0:
		return Recipient{}, fmt.Errorf("no key")
	case strings.HasPrefix(fields[0], "age1"):
		made, err := age.ParseX25519Recipient(fields[0])
		if err != nil {
			return Recipient{}, fmt.Errorf("%q is no age key", fields[0])
		}
		return Recipient{Key: fields[0], Name: strings.Join(fields[1:], " "), recipient: made}, nil
	case strings.HasPrefix(fields[0], "AGE-SECRET-KEY-"):
		return Recipient{}, fmt.Errorf("this is a private key: take it out, and consider it lost")
	case fields[0] != sshType && fields[0] != sshRSAType:
		return Recipient{}, fmt.Errorf("%q begins no key: write ssh-ed25519 AAAA…, ssh-rsa AAAA… or age1…", fields[0])
	case len(fields) == 1:
		return Recipient{}, fmt.Errorf("the key is missing behind %q", fields[0])
	}
	key := fields[0] + " " + fields[1]
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key))
	if err != nil {
		return Recipient{}, fmt.Errorf("%q is no SSH key", fields[1])
	}
	made, err := agessh.ParseRecipient(key)
	if err != nil {
		return Recipient{}, fmt.Errorf("the key %q cannot be encrypted for: it must be ed25519, or RSA of 2048 bits and more", fields[1])
	}
	return Recipient{Key: key, Name: strings.Join(fields[2:], " "), Tag: tag(public.Marshal()), recipient: made}, nil
}

// A Rule is one line of a recipients file.
type Rule struct {
	// Pattern is a glob of groups, or of secrets where it ends in Suffix.
	Pattern   string
	Recipient Recipient
	Line      int
}

// Rules are a recipients file.
type Rules []Rule

// A LineError is something wrong in a line.
type LineError struct {
	Line    int
	Message string
}

func (e LineError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Message) }

// ParseRules reads a recipients file: on each line a glob, a public key and a
// name; # begins a comment. It returns what is right beside what is wrong.
func ParseRules(data []byte) (Rules, []LineError) {
	var rules Rules
	var wrong []LineError
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if len(rules) >= maxRecipients {
			return rules, append(wrong, LineError{n, fmt.Sprintf("more than %d recipients", maxRecipients)})
		}
		pattern, key, _ := strings.Cut(line, " ")
		if i := strings.IndexByte(line, '\t'); i >= 0 && i < len(pattern) {
			pattern, key = line[:i], line[i+1:]
		}
		if _, err := path.Match(pattern, ""); err != nil || path.Clean(pattern) != pattern || path.IsAbs(pattern) || strings.HasPrefix(pattern, "../") {
			wrong = append(wrong, LineError{n, fmt.Sprintf("%q is no glob of groups, such as groups/web or groups/*", pattern)})
			continue
		}
		to, err := ParseRecipient(key)
		if err != nil {
			wrong = append(wrong, LineError{n, err.Error()})
			continue
		}
		rules = append(rules, Rule{Pattern: pattern, Recipient: to, Line: n})
	}
	return rules, wrong
}

// everywhere is the pattern of those who read everything.
const everywhere = "*"

func (r Rule) matches(name string) bool {
	ok, _ := path.Match(r.Pattern, name)
	return ok || r.Pattern == everywhere
}

// Of returns who is to read a secret that groups use: those of lines for the
// secret itself, or else for the groups; and those of "*" in any case. Each is
// there once.
func (r Rules) Of(secret string, groups []string) []Recipient {
	own := slices.ContainsFunc(r, func(rule Rule) bool {
		return strings.HasSuffix(rule.Pattern, Suffix) && rule.matches(secret)
	})
	var list []Recipient
	for _, rule := range r {
		var fits bool
		switch forFile := strings.HasSuffix(rule.Pattern, Suffix); {
		case rule.Pattern == everywhere:
			fits = true
		case forFile:
			fits = rule.matches(secret)
		default:
			fits = !own && slices.ContainsFunc(groups, rule.matches)
		}
		if fits && !slices.ContainsFunc(list, func(x Recipient) bool { return x.Key == rule.Recipient.Key }) {
			list = append(list, rule.Recipient)
		}
	}
	return list
}

// Name returns what the rules call the SSH key with a tag, or "".
func (r Rules) Name(tag string) string {
	for _, rule := range r {
		if rule.Recipient.Tag == tag {
			return rule.Recipient.String()
		}
	}
	return ""
}

// ForGroup reports whether a line lets hosts of a group read a secret: one for
// the secret itself, or one for the group. A line for everything is for people,
// unless it is all that there is.
func (r Rules) ForGroup(secret, group string) bool {
	others := false
	for _, rule := range r {
		if rule.Pattern == everywhere {
			continue
		}
		others = true
		if rule.matches(secret) || rule.matches(group) {
			return true
		}
	}
	return !others && len(r) > 0
}
