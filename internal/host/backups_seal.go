package host

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"filippo.io/age"
)

// A seal keeps secrets among the backups closed to whoever gets the store and
// not the key, which lies in a file beside it.
type seal struct {
	file string

	mu       sync.Mutex
	identity *age.X25519Identity
	key      []byte // of the names
}

func (s *seal) exists() bool {
	_, err := os.Lstat(s.file)
	return err == nil
}

// open reads the key. The first secret makes one.
func (s *seal) open(make bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.identity != nil {
		return nil
	}
	data, err := os.ReadFile(s.file)
	if errors.Is(err, fs.ErrNotExist) && make {
		data, err = s.create()
	}
	if err != nil {
		return fmt.Errorf("cannot read the key of sealed backups: %w", err)
	}
	identity, err := age.ParseX25519Identity(strings.TrimSpace(string(data)))
	if err != nil {
		return fmt.Errorf("cannot read the key of sealed backups in %q", s.file) // the error may hold the key
	}
	sum := sha256.Sum256([]byte("names of sealed backups " + identity.String()))
	s.identity, s.key = identity, sum[:]
	return nil
}

// create makes a key, which is durable and whole before it is there.
func (s *seal) create() ([]byte, error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	data := []byte(identity.String() + "\n")
	dir := filepath.Dir(s.file)
	tmp, err := os.CreateTemp(dir, ".backups-key-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(tmp.Name(), s.file); errors.Is(err, fs.ErrExist) {
		return os.ReadFile(s.file) // another process was first
	} else if err != nil {
		return nil, err
	}
	return data, syncDir(dir)
}

// name returns what a sealed copy of the content with the digest is called: the
// same for the same content, and of no use to somebody who guesses what it is.
func (s *seal) name(sum string) (string, error) {
	if err := s.open(false); err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(sum))
	return hex.EncodeToString(mac.Sum(nil)), nil
}

func (s *seal) writer(to io.Writer) (io.WriteCloser, error) {
	if err := s.open(true); err != nil {
		return nil, err
	}
	return age.Encrypt(to, s.identity.Recipient())
}

// reader opens what writer sealed. Closing it closes the file.
func (s *seal) reader(from io.ReadCloser) (io.ReadCloser, error) {
	if err := s.open(false); err != nil {
		return nil, err
	}
	r, err := age.Decrypt(from, s.identity)
	if err != nil {
		return nil, fmt.Errorf("cannot open sealed backup: %w", err)
	}
	return struct {
		io.Reader
		io.Closer
	}{r, from}, nil
}
