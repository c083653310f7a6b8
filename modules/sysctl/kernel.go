package sysctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// kernel is the directory through which the kernel's parameters are set.
type kernel string

// A MissingKeyError is a key that this kernel does not have.
type MissingKeyError struct{ Key string }

func (e *MissingKeyError) Error() string {
	return fmt.Sprintf("the kernel has no sysctl %q: it is misspelled, or its kernel module is not loaded", e.Key)
}

// A ReadOnlyError is a key that cannot be changed, or not from here.
type ReadOnlyError struct {
	Key string
	Err error
}

func (e *ReadOnlyError) Error() string {
	return fmt.Sprintf("the sysctl %q is read-only here: %v", e.Key, e.Err)
}

func (e *ReadOnlyError) Unwrap() error { return e.Err }

func (k kernel) path(key string) string {
	return filepath.Join(string(k), strings.Map(swap, key))
}

func (k kernel) read(key string) (string, error) {
	data, err := os.ReadFile(k.path(key))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", &MissingKeyError{Key: key}
	case errors.Is(err, syscall.EISDIR):
		return "", fmt.Errorf("sysctl %q is a group of keys, not a key", key)
	case err != nil:
		return "", fmt.Errorf("cannot read sysctl %q: %w", key, errors.Unwrap(err))
	}
	return normal(string(data)), nil
}

func (k kernel) write(key, value string, sensitive bool) error {
	f, err := os.OpenFile(k.path(key), os.O_WRONLY|os.O_TRUNC, 0)
	if err == nil {
		_, err = f.WriteString(value + "\n")
		err = errors.Join(err, f.Close())
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return &MissingKeyError{Key: key}
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return &ReadOnlyError{Key: key, Err: cause(err)}
	case sensitive:
		return fmt.Errorf("cannot set sysctl %q: %w", key, cause(err))
	}
	return fmt.Errorf("cannot set sysctl %q to %q: %w", key, value, cause(err))
}

// cause is the system's error without the path that led to it.
func cause(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
