package resource

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// A Mode is a file's permission and special bits, as the twelve low bits of
// st_mode. The zero value means "not given".
type Mode struct {
	bits uint32
	set  bool
}

// NewMode returns the mode with the given bits, such as 0o4755.
func NewMode(bits uint32) Mode { return Mode{bits: bits & 0o7777, set: true} }

// IsSet reports whether a mode was given.
func (m Mode) IsSet() bool { return m.set }

// Bits returns the twelve low bits of st_mode.
func (m Mode) Bits() uint32 { return m.bits }

// Or returns the mode, or the given bits when none was given.
func (m Mode) Or(bits uint32) Mode {
	if m.set {
		return m
	}
	return NewMode(bits)
}

// FileMode returns the mode as package os wants it, where setuid, setgid and
// sticky are bits of their own.
func (m Mode) FileMode() fs.FileMode {
	mode := fs.FileMode(m.bits & 0o777)
	if m.bits&0o4000 != 0 {
		mode |= fs.ModeSetuid
	}
	if m.bits&0o2000 != 0 {
		mode |= fs.ModeSetgid
	}
	if m.bits&0o1000 != 0 {
		mode |= fs.ModeSticky
	}
	return mode
}

// String returns the mode as it is written in a manifest: "0644", "04755".
func (m Mode) String() string {
	if !m.set {
		return ""
	}
	return fmt.Sprintf("%#04o", m.bits)
}

// MarshalText returns String.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText takes an octal number with a leading zero and nothing else.
func (m *Mode) UnmarshalText(text []byte) error {
	s := string(text)
	digits, octal := strings.CutPrefix(s, "0o")
	if !octal {
		digits, octal = strings.CutPrefix(s, "0")
	}
	bits, err := strconv.ParseUint(digits, 8, 32)
	switch {
	case octal && err == nil && bits <= 0o7777 && len(digits) >= 3:
		*m = NewMode(uint32(bits))
		return nil
	case !octal && isOctal(s) && (len(s) == 3 || len(s) == 4):
		return fmt.Errorf("mode %s has no leading zero: write \"0%s\"", s, s)
	default:
		return fmt.Errorf("%q is not a mode: write an octal number with a leading zero, such as \"0644\"", s)
	}
}

func isOctal(s string) bool {
	return s != "" && strings.Trim(s, "01234567") == ""
}
