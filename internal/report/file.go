package report

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/report/spool"
)

// File appends events to a file, one JSON object a line.
//
// The file is opened for each batch, so that one that was rotated away is left
// alone, and what Send says has arrived is on the disk: a power cut cannot take
// an event whose place in the log has moved on.
type File struct {
	path string
}

// NewFile returns the sink for a path. The file is made when there is something
// to write, and its directory with it.
func NewFile(path string) *File { return &File{path: filepath.Clean(path)} }

// Name implements Sink.
func (f *File) Name() string { return KindFile + ":" + f.path }

// Send implements Sink. A batch arrives as a whole or not at all.
func (f *File) Send(ctx context.Context, events []Stored) (n int, err error) {
	if len(events) == 0 {
		return 0, nil
	}
	var batch bytes.Buffer
	for _, e := range events {
		batch.Write(compact(e.Event))
		batch.WriteByte('\n')
	}
	file, err := f.open()
	if err != nil {
		return 0, fmt.Errorf("cannot report to file %q: %w", f.path, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := f.append(ctx, file, batch.Bytes()); err != nil {
		return 0, fmt.Errorf("cannot report to file %q: %w", f.path, err)
	}
	return len(events), nil
}

func (f *File) append(ctx context.Context, file *os.File, batch []byte) error {
	// A one-shot run may report beside the daemon.
	if err := spool.Lock(ctx, file); err != nil {
		return err
	}
	size, err := mend(file)
	if err != nil {
		return err
	}
	if _, err := file.Write(batch); err != nil {
		// A full disk takes half a line: take it back, the batch comes again.
		return errors.Join(err, file.Truncate(size))
	}
	if err := unix.Fdatasync(int(file.Fd())); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return err
	}
	if st.Nlink == 0 {
		return errors.New("it was deleted meanwhile")
	}
	return nil
}

// open opens the file for appending. It follows no link, waits for no reader of
// a FIFO, and leaves the mode of a file that is there alone.
func (f *File) open() (*os.File, error) {
	const (
		fileMode = 0o640
		dirMode  = 0o750
		flags    = os.O_RDWR | os.O_APPEND | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	)
	dir := filepath.Dir(f.path)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(f.path, flags, 0)
	if errors.Is(err, os.ErrNotExist) {
		file, err = os.OpenFile(f.path, flags|os.O_CREATE|os.O_EXCL, fileMode)
		if errors.Is(err, os.ErrExist) {
			return nil, errors.New("somebody else is making it")
		}
		if err == nil {
			// Whatever the umask.
			err = errors.Join(file.Chmod(fileMode), syncDirectory(dir))
		}
	}
	if errors.Is(err, unix.ELOOP) {
		return nil, errors.New("it is a symbolic link")
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// mend takes away a last line that a crash cut off, and returns the file's size.
// The event was not counted as arrived, so it comes again. A line that lacks
// nothing but its end gets that instead.
func mend(file *os.File) (int64, error) {
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		return 0, err
	}
	// No event is longer, so what is longer is not ours to take.
	const longest = 1 << 20
	size := info.Size()
	start := max(0, size-longest)
	last := make([]byte, 1)
	if _, err := file.ReadAt(last, size-1); err != nil || last[0] == '\n' {
		return size, err
	}
	tail := make([]byte, size-start)
	if _, err := file.ReadAt(tail, start); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	end := bytes.LastIndexByte(tail, '\n')
	if json.Valid(tail[end+1:]) || (end < 0 && start > 0) {
		n, err := file.Write([]byte{'\n'})
		return size + int64(n), err
	}
	size = start + int64(end) + 1
	return size, file.Truncate(size)
}

// compact returns an event on one line. What is no JSON becomes a JSON string,
// so that nothing that is stored can stop a sink for good.
func compact(event json.RawMessage) []byte {
	var b bytes.Buffer
	if err := json.Compact(&b, event); err == nil {
		return EscapeJSON(b.Bytes())
	}
	quoted, err := json.Marshal(string(event))
	if err != nil {
		return []byte(`""`)
	}
	return EscapeJSON(quoted)
}
