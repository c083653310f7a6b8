package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dirs is the number of directories that the files are in.
const dirs = 50

// paths are those of count files, as the bench lays them out.
func paths(dir string, count int) []string {
	var out []string
	for d := range dirs {
		for f := range count / dirs {
			out = append(out, fmt.Sprintf("%s/d%02d/f%03d", dir, d, f))
		}
	}
	return out
}

// floor does what an agent must do at least, and prints the CPU time of that in
// nanoseconds, the start of the program not included.
func floor(kind, dir string, count int) error {
	all := paths(dir, count)
	start, err := ownCPU()
	if err != nil {
		return err
	}
	switch kind {
	case "nothing":
	case "lstat":
		err = lstatAll(all)
	case "read":
		err = readAll(all)
	case "write":
		err = writeAll(dir, all)
	default:
		return errUsage
	}
	if err != nil {
		return err
	}
	end, err := ownCPU()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(os.Stdout, (end - start).Nanoseconds())
	return err
}

func ownCPU() (time.Duration, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

func lstatAll(all []string) error {
	for _, path := range all {
		if _, err := os.Lstat(path); err != nil {
			return err
		}
	}
	return nil
}

func readAll(all []string) error {
	for _, path := range all {
		if _, err := os.Lstat(path); err != nil {
			return err
		}
		content, err := os.ReadFile(path) //nolint:gosec // what it has listed itself
		if err != nil {
			return err
		}
		if sha256.Sum256(content) == [32]byte{} {
			return errors.New("a digest of zeroes")
		}
	}
	return nil
}

// writeAll writes files of 1 KiB durably: all, one syncfs, and their names.
func writeAll(dir string, all []string) error {
	content := bytes.Repeat([]byte("x"), 1024)
	for d := range dirs {
		if err := os.MkdirAll(fmt.Sprintf("%s/d%02d", dir, d), 0o755); err != nil { //nolint:gosec // as an agent makes it
			return err
		}
	}
	for _, path := range all {
		if err := os.WriteFile(path+".new", content, 0o644); err != nil { //nolint:gosec // as an agent writes it
			return err
		}
	}
	f, err := os.Open(dir) //nolint:gosec // the bench says where
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return err
	}
	for _, path := range all {
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
	}
	return nil
}
