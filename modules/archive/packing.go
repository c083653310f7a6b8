package archive

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/xi2/xz"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// What an archive can be packed as.
const (
	packedTar   = "tar"
	packedZip   = "zip"
	packedGzip  = "gzip"
	packedBzip2 = "bzip2"
	packedXz    = "xz"
	packedZstd  = "zstd"
)

// packings are the beginnings that tell one from another. The last two are known,
// and not read: hardly anybody offers them.
var packings = []struct{ magic, name string }{
	{"PK\x03\x04", packedZip},
	{"PK\x05\x06", packedZip},
	{"\x1f\x8b", packedGzip},
	{"BZh", packedBzip2},
	{"\xfd7zXZ\x00", packedXz},
	{"\x28\xb5\x2f\xfd", packedZstd},
	{"LZIP", "lzip"},
	{"7z\xbc\xaf\x27\x1c", "7z"},
}

// packing tells what begins with head; "" is nothing that is known.
func packing(head []byte) string {
	for _, p := range packings {
		if bytes.HasPrefix(head, []byte(p.magic)) {
			return p.name
		}
	}
	if len(head) == 512 && string(head[257:262]) == "ustar" {
		return packedTar
	}
	return ""
}

const (
	// maxWindow is what reading xz may take of memory: as much as `xz -9` wants.
	maxWindow = 64 << 20
	// readHere completes the errors of what is not.
	readHere = "tar, tar.gz, tar.bz2, tar.xz, tar.zst and zip are"
)

// errKind is the error for what is no archive that can be read.
var errKind = errors.New("is no archive that is read here: " + readHere)

// open returns the tar that was packed.
func (u *unpacking) open(packing string, from io.Reader) (io.ReadCloser, error) {
	switch packing {
	case packedTar:
		return io.NopCloser(from), nil
	case packedGzip:
		return gzip.NewReader(from)
	case packedBzip2:
		return io.NopCloser(bzip2.NewReader(from)), nil
	case packedXz:
		r, err := xz.NewReader(from, maxWindow)
		return io.NopCloser(windowed{r}), inWords(err)
	case packedZstd:
		return u.zstd(from)
	case "":
		return nil, errKind
	}
	return nil, fmt.Errorf("is packed with %s, which is not read here: %s", packing, readHere)
}

// windowed is what is read through a window that has a limit.
type windowed struct{ io.Reader }

func (w windowed) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	return n, inWords(err)
}

func inWords(err error) error {
	if errors.Is(err, xz.ErrMemlimit) {
		return fmt.Errorf("it takes more than %d MiB of memory to unpack, which `xz -9` does not: %w", maxWindow>>20, err)
	}
	return err
}

// zstd has the program of that name unpack: the code for it would weigh more in
// this one than its use is worth.
func (u *unpacking) zstd(from io.Reader) (io.ReadCloser, error) {
	program := host.LocalProgram("zstd")
	if program == "" {
		return nil, errors.New("is packed with zstd, and the host has no program of that name: declare `package: zstd`")
	}
	return host.StartFilter(u.ctx, []string{program, "-dcq", "--memory=128MB", "--no-progress"}, from)
}

// unpackers are the needs of an archive whose name says that a program unpacks it.
func (r *Resource) unpackers() []resource.Need {
	names := append([]string{r.Source, r.URL}, r.Mirrors...)
	if !slices.ContainsFunc(names, func(name string) bool {
		return strings.HasSuffix(name, ".zst") || strings.HasSuffix(name, ".tzst")
	}) {
		return nil
	}
	return []resource.Need{{Claim: resource.Claim{Space: resource.SpacePackage, Name: "zstd"}}}
}
