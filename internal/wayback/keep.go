package wayback

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ballastSize is the room that is kept for a way back over a disk that is full.
const ballastSize = 16 << 20

// keepProgram copies the program, unless it is what is there. A link would be
// changed by whoever writes to the program in its place.
func (d Dir) keepProgram(program string) error {
	sum, err := sumOf(program)
	if err != nil {
		return fmt.Errorf("cannot read program: %w", err)
	}
	if kept, err := sumOf(d.Path(ProgramFile)); err == nil && kept == sum && d.sum() == sum {
		return nil
	}
	in, err := os.Open(program) //nolint:gosec // our own program
	if err != nil {
		return fmt.Errorf("cannot keep program: %w", err)
	}
	defer in.Close()
	if err := d.copyIn(ProgramFile, in, 0o700); err != nil {
		return fmt.Errorf("cannot keep program: %w", err)
	}
	if err := d.replace(sumFile, []byte(sum+"  "+ProgramFile+"\n"), 0o600); err != nil {
		return fmt.Errorf("cannot keep program: %w", err)
	}
	return nil
}

// sum is what the copy is said to be.
func (d Dir) sum() string {
	data, err := os.ReadFile(d.Path(sumFile))
	if err != nil {
		return ""
	}
	sum, _, _ := strings.Cut(string(data), " ")
	return sum
}

// keep copies a file that the change may break. Where there is none, there is none on
// the way back.
func (d Dir) keep(as, name string) (kept bool, err error) {
	data, err := os.ReadFile(name) //nolint:gosec // the operator says where it is
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.Remove(d.Path(as)); errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, err
	}
	if err == nil {
		err = d.replace(as, data, 0o600)
	}
	if err != nil {
		return false, fmt.Errorf("cannot keep %q: %w", name, err)
	}
	return true, nil
}

func sumOf(name string) (string, error) {
	f, err := os.Open(name) //nolint:gosec // our own program
	if err != nil {
		return "", err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// Executable reports whether the copy of the program can be run where it is.
func (d Dir) Executable() bool { return unix.Access(d.Path(ProgramFile), unix.X_OK) == nil }

// Load takes up room on the disk while there is some. It stays until Release.
func (d Dir) Load() error {
	if info, err := os.Stat(d.Path(ballastFile)); err == nil && info.Size() == ballastSize {
		return nil
	}
	f, err := os.OpenFile(d.Path(ballastFile), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("cannot keep room for the way back: %w", err)
	}
	defer f.Close()
	err = unix.Fallocate(int(f.Fd()), 0, 0, ballastSize)
	if errors.Is(err, unix.EOPNOTSUPP) {
		_, err = f.Write(make([]byte, ballastSize))
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("cannot keep room for the way back: %w", err)
	}
	return nil
}

// Release gives the room back.
func (d Dir) Release() error {
	if err := os.Remove(d.Path(ballastFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot give up the room that was kept: %w", err)
	}
	return nil
}

// replace writes a file of the directory, durably. On a disk that is full it is
// written over what is there, which takes no room: that which was kept is for the
// way back alone, and whoever filled the disk would have it at once.
func (d Dir) replace(name string, data []byte, mode fs.FileMode) error {
	err := d.copyIn(name, strings.NewReader(string(data)), mode)
	if errors.Is(err, unix.ENOSPC) {
		if over := d.writeOver(name, data); over == nil {
			return nil
		}
	}
	return err
}

func (d Dir) writeOver(name string, data []byte) error {
	f, err := os.OpenFile(d.Path(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	for int64(len(data)) < info.Size() {
		data = append(data, '\n') // JSON may end in any number of them
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return err
	}
	return f.Sync()
}

func (d Dir) copyIn(name string, r io.Reader, mode fs.FileMode) error {
	tmp := d.Path("." + name + ".new")
	_ = os.Remove(tmp)                                                  // of somebody who was cut off
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode) //nolint:gosec // ours
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	if err := os.Rename(tmp, d.Path(name)); err != nil {
		return err
	}
	return syncName(string(d))
}

func syncName(dir string) error {
	f, err := os.Open(dir) //nolint:gosec // ours
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
