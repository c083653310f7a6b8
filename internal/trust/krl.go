package trust

import (
	"crypto/sha1" //nolint:gosec // a KRL may name keys by it
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"golang.org/x/crypto/ssh"
)

// krlMagic begins a KRL, whose form OpenSSH describes in PROTOCOL.krl.
const krlMagic = "SSHKRL\n\x00"

// Sections of a KRL, and of its lists of certificates.
const (
	krlCertificates = 1
	krlKey          = 2
	krlSHA1         = 3
	krlSHA256       = 5
	krlExtension    = 255

	krlSerials       = 0x20
	krlSerialRange   = 0x21
	krlSerialBitmap  = 0x22
	krlKeyIDs        = 0x23
	krlCertExtension = 0x39
)

type krl struct {
	keys, sha1, sha256 map[string]bool
	certificates       []krlCertified
}

// krlCertified revokes certificates of one authority, or of any.
type krlCertified struct {
	authority string
	ids       map[string]bool
	serials   map[uint64]bool
	ranges    [][2]uint64
	bitmaps   []krlBitmap
}

type krlBitmap struct {
	offset uint64
	bits   *big.Int
}

// An sshWire is what is left of an SSH message.
type sshWire []byte

func (w *sshWire) number(size int) (uint64, error) {
	if len(*w) < size {
		return 0, errCutOff
	}
	var b [8]byte
	copy(b[8-size:], *w)
	*w = (*w)[size:]
	return binary.BigEndian.Uint64(b[:]), nil
}

func (w *sshWire) text() (sshWire, error) {
	n, err := w.number(4)
	if err != nil || n > uint64(len(*w)) {
		return nil, errCutOff
	}
	s := (*w)[:n]
	*w = (*w)[n:]
	return s, nil
}

func parseKRL(data []byte) (*krl, error) {
	w := sshWire(data[len(krlMagic):])
	version, err := w.number(4)
	if err != nil {
		return nil, err
	}
	if version != 1 {
		return nil, fmt.Errorf("its format is %d, and 1 is known", version)
	}
	// Its own version, its date and its flags.
	for range 3 {
		if _, err := w.number(8); err != nil {
			return nil, err
		}
	}
	// Something reserved and a comment.
	for range 2 {
		if _, err := w.text(); err != nil {
			return nil, err
		}
	}
	k := &krl{keys: map[string]bool{}, sha1: map[string]bool{}, sha256: map[string]bool{}}
	for len(w) > 0 {
		kind, err := w.number(1)
		if err != nil {
			return nil, err
		}
		section, err := w.text()
		if err != nil {
			return nil, err
		}
		if err := k.section(kind, section); err != nil {
			return nil, err
		}
	}
	return k, nil
}

func (k *krl) section(kind uint64, w sshWire) error {
	switch kind {
	case krlCertificates:
		return k.certified(w)
	case krlKey:
		return w.texts(k.keys, 0)
	case krlSHA1:
		return w.texts(k.sha1, sha1.Size)
	case krlSHA256:
		return w.texts(k.sha256, sha256.Size)
	case krlExtension:
		return w.extension()
	default:
		return fmt.Errorf("it has a section of type %d, which is not known", kind)
	}
}

// texts reads strings to the end, of a size where one is given.
func (w sshWire) texts(into map[string]bool, size int) error {
	for len(w) > 0 {
		s, err := w.text()
		if err != nil {
			return err
		}
		if size != 0 && len(s) != size {
			return fmt.Errorf("a digest has %d bytes and not %d", len(s), size)
		}
		into[string(s)] = true
	}
	return nil
}

// extension passes over one that may be passed over.
func (w sshWire) extension() error {
	name, err := w.text()
	if err != nil {
		return err
	}
	critical, err := w.number(1)
	if err != nil {
		return err
	}
	if critical != 0 {
		return fmt.Errorf("it has the extension %q, which is not known", name)
	}
	_, err = w.text()
	return err
}

func (k *krl) certified(w sshWire) error {
	authority, err := w.text()
	if err != nil {
		return err
	}
	if _, err := w.text(); err != nil {
		return err
	}
	c := krlCertified{authority: string(authority), ids: map[string]bool{}, serials: map[uint64]bool{}}
	for len(w) > 0 {
		kind, err := w.number(1)
		if err != nil {
			return err
		}
		section, err := w.text()
		if err != nil {
			return err
		}
		if err := c.section(kind, section); err != nil {
			return err
		}
	}
	k.certificates = append(k.certificates, c)
	return nil
}

func (c *krlCertified) section(kind uint64, w sshWire) error {
	switch kind {
	case krlSerials:
		for len(w) > 0 {
			n, err := w.number(8)
			if err != nil {
				return err
			}
			c.serials[n] = true
		}
		return nil
	case krlSerialRange:
		from, err := w.number(8)
		if err != nil {
			return err
		}
		to, err := w.number(8)
		if err != nil {
			return err
		}
		if from > to {
			return errors.New("a range of serial numbers ends before it begins")
		}
		c.ranges = append(c.ranges, [2]uint64{from, to})
		return w.end()
	case krlSerialBitmap:
		offset, err := w.number(8)
		if err != nil {
			return err
		}
		bits, err := w.text()
		if err != nil {
			return err
		}
		if len(bits) > 0 && bits[0]&0x80 != 0 {
			return errors.New("a list of serial numbers is negative")
		}
		c.bitmaps = append(c.bitmaps, krlBitmap{offset, new(big.Int).SetBytes(bits)})
		return w.end()
	case krlKeyIDs:
		return w.texts(c.ids, 0)
	case krlCertExtension:
		return w.extension()
	default:
		return fmt.Errorf("it has a list of certificates of type %#x, which is not known", kind)
	}
}

func (w sshWire) end() error {
	if len(w) > 0 {
		return errors.New("there is more in a section than belongs there")
	}
	return nil
}

// revokes reports whether a key without a certificate is revoked.
func (k *krl) revokes(key ssh.PublicKey) bool {
	blob := key.Marshal()
	short, long := sha1.Sum(blob), sha256.Sum256(blob) //nolint:gosec // as above
	return k.keys[string(blob)] || k.sha1[string(short[:])] || k.sha256[string(long[:])]
}

func (k *krl) revokesCertificate(cert *ssh.Certificate) bool {
	authority := string(cert.SignatureKey.Marshal())
	for _, c := range k.certificates {
		if (c.authority == "" || c.authority == authority) && c.revokes(cert) {
			return true
		}
	}
	return false
}

func (c *krlCertified) revokes(cert *ssh.Certificate) bool {
	if c.ids[cert.KeyId] {
		return true
	}
	n := cert.Serial
	if n == 0 {
		return false // it is what an authority gives that does not number
	}
	if c.serials[n] {
		return true
	}
	for _, r := range c.ranges {
		if n >= r[0] && n <= r[1] {
			return true
		}
	}
	for _, b := range c.bitmaps {
		if n >= b.offset && n-b.offset < uint64(b.bits.BitLen()) && b.bits.Bit(int(n-b.offset)) == 1 { //nolint:gosec // less than the length
			return true
		}
	}
	return false
}
