package repository

import (
	"errors"
	"io/fs"
	"os"
	"path"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/host/files"
	"trued.dev/trued/internal/host/release"
)

// A form is what a package manager reads.
type form interface {
	// files are those of a repository, its own first.
	files(r *Resource) []files.File
	// lacks lists what cannot be said in the form, or must be and is not.
	lacks(r *Resource) []lack
	// reads lists where repositories are defined: directories, and files of others.
	reads() ([]string, error)
	// twice tells where else the repository is defined.
	twice(r *Resource) ([]second, error)
}

// A second is another file that defines a repository.
type second struct {
	file string
	// breaks is true where the package manager reads no repository at all because
	// of it.
	breaks bool
}

func (s second) String() string {
	note := s.file + " defines it as well: remove one"
	if s.breaks {
		note += ", for they differ in the key, and apt reads none at all"
	}
	return note
}

// A lack is an attribute that is not as the package manager needs it.
type lack struct{ field, why string }

// formOf returns what the package manager of a machine reads, as the family of its
// system tells; apt's where nothing does.
func formOf(h *host.Host) form {
	r, _ := release.Read(os.DirFS(h.Root())) // what cannot be read says nothing
	switch r.Family() {
	case release.RHEL:
		return rpm{host: h, directory: "/etc/yum.repos.d"}
	case release.SUSE:
		return rpm{host: h, directory: "/etc/zypp/repos.d", refresh: true}
	case release.Arch:
		return none{}
	}
	return apt{host: h}
}

// entries lists the files of a directory with an ending; none where there is no
// directory.
func entries(h *host.Host, dir, ending string) ([]string, error) {
	all, err := h.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range all {
		if path.Ext(e.Name) == ending && e.Info.Type() == host.TypeFile {
			names = append(names, path.Join(dir, e.Name))
		}
	}
	return names, err
}

// none is for systems whose package manager has no file for each repository.
type none struct{}

func (none) files(r *Resource) []files.File {
	return []files.File{{Path: "/etc/pacman.d/" + r.Title + ".conf", Absent: r.absent()}}
}

func (none) lacks(*Resource) []lack {
	return []lack{{"repository", "pacman's repositories are sections of /etc/pacman.conf: write them with the kind ini"}}
}

func (none) reads() ([]string, error) { return nil, nil }

func (none) twice(*Resource) ([]second, error) { return nil, nil }
