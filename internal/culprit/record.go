package culprit

import (
	"bytes"
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// An event is one record of fanotify. Its slices are of the buffer that it was
// read from.
type event struct {
	mask uint64
	pid  int
	// handle is a file descriptor of the process; goneProcess when there was none
	// to have, noHandle when the kernel gives none.
	handle int
	// dir is the file system's id and the file handle of the directory, name what
	// it is about in there. Both are empty for an event about the queue itself.
	dir  dirKey
	name []byte
}

// A dirKey identifies a directory as the kernel does: the file system's id, and
// the length, type and bytes of the file handle.
type dirKey []byte

const (
	noHandle    = -3
	goneProcess = unix.FAN_NOPIDFD

	metadataSize = 24
	infoSize     = 4
	fsidSize     = 8
	handleHead   = 8
)

var errMalformed = errors.New("a record of fanotify is not as the kernel documents it")

// parse calls each for every event in a buffer that was read from fanotify, in
// order. What it cannot understand ends it; what comes after that is lost.
func parse(buf []byte, each func(event)) error {
	for len(buf) > 0 {
		if len(buf) < metadataSize {
			return errMalformed
		}
		// event_len, vers, reserved, metadata_len, mask, fd, pid
		total := binary.NativeEndian.Uint32(buf)
		head := binary.NativeEndian.Uint16(buf[6:])
		if uint64(total) > uint64(len(buf)) || head < metadataSize || uint32(head) > total || buf[4] != unix.FANOTIFY_METADATA_VERSION {
			return errMalformed
		}
		e := event{
			mask:   binary.NativeEndian.Uint64(buf[8:]),
			pid:    int(int32(binary.NativeEndian.Uint32(buf[20:]))),
			handle: noHandle,
		}
		err := e.parseInfo(buf[head:total])
		each(e)
		if err != nil {
			return err
		}
		buf = buf[total:]
	}
	return nil
}

// parseInfo reads the records that follow an event.
func (e *event) parseInfo(info []byte) error {
	for len(info) > 0 {
		if len(info) < infoSize {
			return errMalformed
		}
		size := binary.NativeEndian.Uint16(info[2:])
		if size < infoSize || int(size) > len(info) {
			return errMalformed
		}
		kind, body := info[0], info[infoSize:size]
		switch kind {
		case unix.FAN_EVENT_INFO_TYPE_DFID_NAME:
			if err := e.parseName(body); err != nil {
				return err
			}
		case unix.FAN_EVENT_INFO_TYPE_PIDFD:
			if len(body) < 4 {
				return errMalformed
			}
			e.handle = int(int32(binary.NativeEndian.Uint32(body)))
		}
		info = info[size:]
	}
	return nil
}

// parseName reads the handle of a directory and the name of what is in it.
func (e *event) parseName(body []byte) error {
	if len(body) < fsidSize+handleHead {
		return errMalformed
	}
	size := uint64(binary.NativeEndian.Uint32(body[fsidSize:]))
	end := fsidSize + handleHead + size
	if end > uint64(len(body)) {
		return errMalformed
	}
	e.dir = dirKey(body[:end])
	e.name, _, _ = bytes.Cut(body[end:], []byte{0})
	return nil
}

// newDirKey makes the key of a directory from what the system says of it.
func newDirKey(fsid unix.Fsid, h unix.FileHandle) dirKey {
	key := make(dirKey, 0, fsidSize+handleHead+h.Size())
	for _, v := range fsid.Val {
		key = binary.NativeEndian.AppendUint32(key, uint32(v))
	}
	key = binary.NativeEndian.AppendUint32(key, uint32(h.Size()))
	key = binary.NativeEndian.AppendUint32(key, uint32(h.Type()))
	return append(key, h.Bytes()...)
}
