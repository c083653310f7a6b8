package culprit

import (
	"encoding/binary"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// record makes what the kernel writes of one event.
func record(mask uint64, pid int32, infos ...[]byte) []byte {
	info := slices.Concat(infos...)
	b := binary.NativeEndian.AppendUint32(nil, uint32(metadataSize+len(info)))
	b = append(b, unix.FANOTIFY_METADATA_VERSION, 0)
	b = binary.NativeEndian.AppendUint16(b, metadataSize)
	b = binary.NativeEndian.AppendUint64(b, mask)
	b = binary.NativeEndian.AppendUint32(b, 0xffffffff)
	b = binary.NativeEndian.AppendUint32(b, uint32(pid))
	return append(b, info...)
}

func info(kind byte, body []byte) []byte {
	b := []byte{kind, 0}
	b = binary.NativeEndian.AppendUint16(b, uint16(infoSize+len(body)))
	return append(b, body...)
}

func named(key dirKey, name string) []byte {
	body := append(slices.Clone(key), name...)
	for body = append(body, 0); len(body)%4 != 0; {
		body = append(body, 0)
	}
	return info(unix.FAN_EVENT_INFO_TYPE_DFID_NAME, body)
}

func pidfd(fd int32) []byte {
	return info(unix.FAN_EVENT_INFO_TYPE_PIDFD, binary.NativeEndian.AppendUint32(nil, uint32(fd)))
}

func testKey() dirKey {
	return newDirKey(unix.Fsid{Val: [2]int32{7, -8}}, unix.NewFileHandle(1, []byte("handle of the dir")))
}

func TestARecordSaysWhoTouchedWhat(t *testing.T) {
	key := testKey()
	buf := slices.Concat(
		record(unix.FAN_CREATE, 712, named(key, "motd"), pidfd(5)),
		record(unix.FAN_Q_OVERFLOW, 0),
		record(unix.FAN_DELETE, 713, info(99, []byte("a later kernel's")), named(key, "größe"), pidfd(goneProcess)),
		record(unix.FAN_DELETE, 714, named(key, "old")),
	)
	var got []event
	if err := parse(buf, func(e event) { got = append(got, e) }); err != nil {
		t.Fatal(err)
	}
	want := []struct {
		mask      uint64
		pid, file int
		name      string
	}{
		{unix.FAN_CREATE, 712, 5, "motd"}, {unix.FAN_Q_OVERFLOW, 0, noHandle, ""},
		{unix.FAN_DELETE, 713, goneProcess, "größe"}, {unix.FAN_DELETE, 714, noHandle, "old"},
	}
	if len(got) != len(want) {
		t.Fatalf("%d events", len(got))
	}
	for i, w := range want {
		e := got[i]
		if e.mask != w.mask || e.pid != w.pid || e.handle != w.file || string(e.name) != w.name {
			t.Errorf("event %d is %+v, want %+v", i, e, w)
		}
		if w.name != "" && string(e.dir) != string(key) {
			t.Errorf("event %d is of the directory %x, want %x", i, e.dir, key)
		}
	}
}

// A file descriptor that came with a broken record is told of, so that it is
// closed.
func TestABrokenRecordEndsTheReading(t *testing.T) {
	good := record(unix.FAN_CREATE, 712, pidfd(5), named(testKey(), "motd"))
	for name, change := range map[string]func([]byte) []byte{
		"cut short":              func(b []byte) []byte { return b[:len(b)-1] },
		"shorter than its head":  func(b []byte) []byte { binary.NativeEndian.PutUint32(b, 3); return b },
		"longer than the buffer": func(b []byte) []byte { binary.NativeEndian.PutUint32(b, 1<<31); return b },
		"of another version":     func(b []byte) []byte { b[4] = 4; return b },
		"a head of no length":    func(b []byte) []byte { binary.NativeEndian.PutUint16(b[6:], 0); return b },
		"an info of no length":   func(b []byte) []byte { binary.NativeEndian.PutUint16(b[metadataSize+8+2:], 0); return b },
		"a handle without end": func(b []byte) []byte {
			binary.NativeEndian.PutUint32(b[metadataSize+8+infoSize+fsidSize:], 1<<30)
			return b
		},
	} {
		if err := parse(change(slices.Clone(good)), func(event) {}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	var fds []int
	broken := slices.Clone(good)
	binary.NativeEndian.PutUint32(broken[metadataSize+8+infoSize+fsidSize:], 1<<30)
	if err := parse(broken, func(e event) { fds = append(fds, e.handle) }); err == nil || !slices.Equal(fds, []int{5}) {
		t.Errorf("%v, told of the descriptors %v", err, fds)
	}
}

func FuzzParse(f *testing.F) {
	key := testKey()
	f.Add(record(unix.FAN_CREATE, 712, named(key, "motd"), pidfd(5)))
	f.Add(slices.Concat(record(unix.FAN_Q_OVERFLOW, 0), record(unix.FAN_DELETE, 713, named(key, "x"), pidfd(-1))))
	f.Add(record(unix.FAN_CREATE, 712, info(99, []byte("later")), named(nil, "")))
	f.Add(record(unix.FAN_CREATE, 712)[:20])
	f.Fuzz(func(t *testing.T, buf []byte) {
		n := 0
		err := parse(buf, func(e event) {
			n++
			if len(e.name) > len(buf) || len(e.dir) > len(buf) {
				t.Errorf("%+v is larger than its %d bytes", e, len(buf))
			}
		})
		if err == nil && n == 0 && len(buf) > 0 {
			t.Error("what is not empty has no event and no error")
		}
		if n > len(buf)/metadataSize {
			t.Errorf("%d events in %d bytes", n, len(buf))
		}
	})
}
