package trust

import (
	"errors"
	"strings"
	"time"
)

// Tag decides on an annotated tag, as Git stores it: that it is the one of a name and
// of a commit, in full and lower case, and signed by whom one of the lists has, with a
// key that is not revoked; nil revokes none. It returns who that is.
func Tag(raw []byte, name, of string, signers *Signers, keyring *Keyring, revoked *Revocations, now time.Time) (string, *Refusal) {
	t, err := parseTag(raw, name, of)
	if err != nil {
		return "", refuse(Malformed, "%v", err)
	}
	if t.committed.After(now.Add(Skew)) {
		return "", refuse(Future, "its date, %s, is yet to come", shown(t.committed))
	}
	m := &materials{revoked: revoked}
	signer, _, refusal := m.signed(t, signers, keyring, now)
	return signer, refusal
}

// parseTag reads a tag as strictly as Git writes one. Who moves a signed tag to
// another name, such as that of a newer version, changes nothing in it.
func parseTag(raw []byte, name, of string) (*commit, error) {
	text := string(raw)
	head, _, ok := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	if !ok || len(lines) != 4 || strings.IndexByte(head, 0) >= 0 {
		return nil, errors.New("its header is not that of a tag")
	}
	t := &commit{payload: raw}
	tagger, ok := strings.CutPrefix(lines[3], "tagger ")
	switch {
	case lines[0] != "object "+of || lines[1] != "type commit":
		return nil, errors.New("it was made for another commit")
	case lines[2] != "tag "+name:
		return nil, errors.New("it was made under another name: " + shorten(strings.TrimPrefix(lines[2], "tag ")))
	case !ok:
		return nil, errors.New("it has no tagger")
	}
	if err := t.person(tagger); err != nil {
		return nil, errors.New("its tagger is malformed: " + err.Error())
	}
	// The signature follows the message, from the last line on that begins one.
	at := max(strings.LastIndex(text, "\n"+sshHead), strings.LastIndex(text, "\n"+pgpHead)) + 1
	if at > len(head) {
		t.payload, t.signature = raw[:at], raw[at:]
	}
	return t, nil
}
