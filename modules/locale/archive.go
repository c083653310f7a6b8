package locale

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/release"
	"trued.dev/trued/internal/resource"
)

// An archive is what a machine knows of locales: one file with many, and a
// directory for each of the others.
type archive struct {
	host   *host.Host
	family func() string
	making sync.Mutex
}

const (
	localeDir     = "/usr/lib/locale"
	archiveFile   = localeDir + "/locale-archive"
	supportedFile = "/usr/share/i18n/SUPPORTED"
)

// familyOf is the family of the system; Debian where nothing says.
func familyOf(h *host.Host) string {
	r, _ := release.Read(os.DirFS(h.Root())) // what cannot be read says nothing
	if family := r.Family(); family != "" {
		return family
	}
	return release.Debian
}

// lists reports whether the system makes locales from a list; others bring them
// in packages.
func (a *archive) lists() bool {
	return a.family() == release.Debian || a.family() == release.Arch
}

// defaultFile is where the machine's default is kept.
func (a *archive) defaultFile() string {
	if a.family() == release.Debian {
		return "/etc/default/locale"
	}
	return "/etc/locale.conf"
}

// brings is the package that brings what locales are made with.
func (a *archive) brings() resource.Claim {
	name := "glibc"
	if a.family() == release.Debian {
		name = "locales"
	}
	return resource.Claim{Space: resource.SpacePackage, Name: name}
}

func (a *archive) tool() []string {
	if !a.lists() {
		return nil
	}
	return a.host.Program("locale-gen")
}

// has reports whether the machine knows a locale.
func (a *archive) has(name string) (bool, error) {
	for _, spelled := range []string{name, normal(name)} {
		if _, err := a.host.Lstat(path.Join(localeDir, spelled)); err == nil {
			return true, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	names, err := a.names()
	return err == nil && slices.Contains(names, normal(name)), err
}

// names are those of the locales in the file; none where there is no file.
func (a *archive) names() (names []string, err error) {
	err = a.host.Read(archiveFile, func(r io.Reader) error {
		names, err = readNames(r)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return names, err
}

// readNames reads an archive's names. Its head says where they stand: beside each
// other, with a NUL after each.
func readNames(r io.Reader) ([]string, error) {
	const magic, headSize, offset, used, most = 0xde020109, 56, 5, 6, 16 << 20
	head := make([]byte, headSize)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("it is cut off: %w", err)
	}
	word := func(i int) int64 { return int64(binary.NativeEndian.Uint32(head[4*i:])) }
	if word(0) != magic || word(offset) < headSize || word(used) > most {
		return nil, errors.New("it is not an archive of locales")
	}
	table := make([]byte, word(used))
	_, err := io.CopyN(io.Discard, r, word(offset)-headSize)
	if err == nil {
		_, err = io.ReadFull(r, table)
	}
	if err != nil {
		return nil, fmt.Errorf("it is cut off: %w", err)
	}
	var names []string
	for name := range bytes.SplitSeq(table, []byte{0}) {
		if len(name) > 0 {
			names = append(names, string(name))
		}
	}
	return names, nil
}

// supports reports whether the system can make what a line of the list says; told
// is false where it does not say.
func (a *archive) supports(line string) (supported, told bool, err error) {
	for _, name := range []string{supportedFile, "/usr/local/share/i18n/SUPPORTED"} {
		text, err := a.host.ReadFile(name, 1<<20)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, true, err
		}
		told = true
		for l := range strings.Lines(string(text)) {
			if is(line)(l) {
				return true, true, nil
			}
		}
	}
	return false, told, nil
}

// make has all locales of the list made. Those that are there stay, as far as the
// program can do that, unless one is to go.
func (a *archive) make(ctx context.Context, keep bool) error {
	a.making.Lock()
	defer a.making.Unlock()
	call := a.tool()
	if call == nil {
		return errors.New("locale-gen, which makes locales, is not installed")
	}
	if keep && a.family() == release.Debian {
		call = slices.Concat(call, []string{"--keep-existing"})
	}
	if _, err := a.host.Run(ctx, host.Command{Args: call}); err != nil {
		return fmt.Errorf("cannot make the locales: %w", err)
	}
	return nil
}
