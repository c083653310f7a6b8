// Package secret reads and writes age-encrypted files: whom they are for, and
// with the right key what is in them.
//
// It keeps no plaintext: not on disk, not in memory beyond what it returns. No
// error of it holds a byte of one. It knows files as bytes, and nothing of what
// they are used for.
package secret

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// Suffix is what names of encrypted files end in.
const Suffix = ".age"

// MaxSize is how large an encrypted file may be: it is decrypted in memory.
const MaxSize = 16 << 20

const (
	intro       = "age-encryption.org/v1\n"
	armorIntro  = "-----BEGIN AGE ENCRYPTED FILE-----"
	sshType     = "ssh-ed25519"
	sshRSAType  = "ssh-rsa"
	nativeType  = "X25519"
	maxLine     = 4096
	maxAddresse = 10_000
)

// errNotAge is what is wrong with a file that is none of age's.
var errNotAge = errors.New("not a file encrypted with age")

// A Sealed is an encrypted file with what can be told of it without a key.
type Sealed struct {
	data []byte // without armor
	// Armored is true for the form of text.
	Armored bool
	// SSH are the tags of the SSH keys that it is for.
	SSH []string
	// Anonymous is how many keys it is for of which it does not say which they
	// are: those of age itself.
	Anonymous int
	// Other are kinds of recipients that no key of a host opens: a passphrase,
	// or a plugin's.
	Other []string
}

// Read takes an encrypted file apart, binary or armored. It needs no key.
func Read(data []byte) (*Sealed, error) {
	s := &Sealed{data: data}
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); bytes.HasPrefix(trimmed, []byte(armorIntro)) {
		plain, err := io.ReadAll(armor.NewReader(bytes.NewReader(trimmed)))
		if err != nil {
			return nil, errors.New("the armor of the file is damaged")
		}
		s.data, s.Armored = plain, true
	}
	rest, ok := bytes.CutPrefix(s.data, []byte(intro))
	if !ok {
		return nil, errNotAge
	}
	for n := 0; ; n++ {
		line, more, ok := bytes.Cut(rest, []byte("\n"))
		if !ok || len(line) > maxLine || n > maxAddresse {
			return nil, errors.New("the header of the file is damaged")
		}
		rest = more
		if bytes.HasPrefix(line, []byte("--- ")) {
			return s, nil
		}
		if args, ok := strings.CutPrefix(string(line), "-> "); ok {
			s.addressee(strings.Fields(args))
		}
	}
}

func (s *Sealed) addressee(args []string) {
	switch {
	case len(args) == 0 || strings.HasSuffix(args[0], "-grease"):
		// It is for nobody, and there so that readers learn to pass over it.
	case args[0] == nativeType:
		s.Anonymous++
	case (args[0] == sshType || args[0] == sshRSAType) && len(args) > 1:
		s.SSH = append(s.SSH, args[1])
	default:
		s.Other = append(s.Other, args[0])
	}
}

// tag is what age calls an SSH key in the header of a file.
func tag(wire []byte) string {
	sum := sha256.Sum256(wire)
	return base64.RawStdEncoding.EncodeToString(sum[:4])
}

// For says whom the file is for, as far as it tells: names gives what is known
// of a tag.
func (s *Sealed) For(names func(tag string) string) string {
	var parts []string
	for _, t := range s.SSH {
		name := ""
		if names != nil {
			name = names(t)
		}
		if name == "" {
			name = "an SSH key with tag " + t
		}
		parts = append(parts, name)
	}
	switch {
	case s.Anonymous == 1:
		parts = append(parts, "one age key, which age does not name")
	case s.Anonymous > 1:
		parts = append(parts, fmt.Sprintf("%d age keys, which age does not name", s.Anonymous))
	}
	for _, o := range s.Other {
		parts = append(parts, "a recipient of kind "+fmt.Sprintf("%q", o))
	}
	if len(parts) == 0 {
		return "nobody"
	}
	return strings.Join(parts, ", ")
}

// An UnreadableError is a file that none of the identities at hand opens.
type UnreadableError struct {
	// Own are the recipients that the identities stand for.
	Own []string
	// Problems are identities that could not be used.
	Problems []error
	// File is the file.
	File *Sealed

	whose string
}

func (e *UnreadableError) Error() string { return e.Say(nil) }

// Say is the error with names for tags of SSH keys.
func (e *UnreadableError) Say(names func(tag string) string) string {
	var s string
	switch len(e.Own) {
	case 0:
		s = "there is no key here to decrypt it with"
	case 1:
		s = fmt.Sprintf("it is not encrypted for %s key %s", e.whose, e.Own[0])
	default:
		s = fmt.Sprintf("it is not encrypted for any of %s keys %s", e.whose, strings.Join(e.Own, ", "))
	}
	for _, p := range e.Problems {
		s += fmt.Sprintf(" (%v)", p)
	}
	return s + "; it is for " + e.File.For(names)
}

// Unwrap gives each problem to errors.Is.
func (e *UnreadableError) Unwrap() []error { return e.Problems }

// Open returns what is in the file.
func (s *Sealed) Open(keys *Keys) ([]byte, error) {
	identities, err := keys.identities()
	unreadable := &UnreadableError{File: s, Problems: err, whose: keys.whose}
	var list []age.Identity
	for _, i := range identities {
		unreadable.Own = append(unreadable.Own, i.recipient)
		list = append(list, i.identity)
	}
	if len(list) == 0 {
		return nil, unreadable
	}
	r, openErr := age.Decrypt(bytes.NewReader(s.data), list...)
	var none *age.NoIdentityMatchError
	if errors.As(openErr, &none) {
		return nil, unreadable
	}
	if openErr != nil {
		// What age says may quote the file.
		return nil, errors.New("the file is damaged: its header does not hold what it should")
	}
	plain, readErr := io.ReadAll(io.LimitReader(r, MaxSize+1))
	switch {
	case readErr != nil:
		return nil, errors.New("the file is damaged: it was cut off or changed after it was encrypted")
	case len(plain) > MaxSize:
		return nil, fmt.Errorf("larger than %d MiB", MaxSize>>20)
	}
	return plain, nil
}

// Seal encrypts for recipients, as text where armored.
func Seal(plain []byte, to []Recipient, armored bool) ([]byte, error) {
	if len(to) == 0 {
		return nil, errors.New("there is nobody to encrypt it for")
	}
	var out bytes.Buffer
	var into io.Writer = &out
	var text io.WriteCloser
	if armored {
		text = armor.NewWriter(&out)
		into = text
	}
	list := make([]age.Recipient, 0, len(to))
	for _, r := range to {
		list = append(list, r.recipient)
	}
	w, err := age.Encrypt(into, list...)
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil && text != nil {
		err = text.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot encrypt: %w", err)
	}
	return out.Bytes(), nil
}

// Compare says what tells the file apart from one that is for exactly these
// recipients. known are the age keys that it was encrypted for, where that was
// written down, and nil where it was not: then they are only counted.
func (s *Sealed) Compare(want []Recipient, known []string) (missing []Recipient, extra []string) {
	tags := slices.Clone(s.SSH)
	native := 0
	for _, r := range want {
		if r.Tag == "" {
			native++
			if known != nil && !slices.Contains(known, r.Key) {
				missing = append(missing, r)
			}
			continue
		}
		if i := slices.Index(tags, r.Tag); i >= 0 {
			tags = slices.Delete(tags, i, i+1)
		} else {
			missing = append(missing, r)
		}
	}
	for _, t := range tags {
		extra = append(extra, "an SSH key with tag "+t)
	}
	for _, k := range known {
		if !slices.ContainsFunc(want, func(r Recipient) bool { return r.Key == k }) {
			extra = append(extra, k)
		}
	}
	if known == nil && s.Anonymous > native {
		extra = append(extra, fmt.Sprintf("%d age keys where %d are wanted", s.Anonymous, native))
	}
	if known == nil && s.Anonymous < native {
		for _, r := range want {
			if r.Tag == "" {
				missing = append(missing, r)
			}
		}
	}
	for _, o := range s.Other {
		extra = append(extra, "a recipient of kind "+fmt.Sprintf("%q", o))
	}
	return missing, extra
}
