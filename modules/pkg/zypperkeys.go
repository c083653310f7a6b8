package pkg

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"
)

// trust has rpm know the keys that repositories name by a path of the host. zypper
// asks about any other, and nobody is there to compare its fingerprint: the answer
// is no. What is wrong with a key zypper says itself.
func (z *zypper) trust(ctx context.Context) error {
	for _, file := range z.keys() {
		out, err := z.h.Run(ctx, z.command("rpm", "--import", file))
		var locked *lockedError
		if err = ifLocked(err, out.Text, zypperLocked...); errors.As(err, &locked) || ctx.Err() != nil {
			return err
		}
	}
	return nil
}

// keys are the files of keys that the repositories in use name.
func (z *zypper) keys() []string {
	var files []string
	for _, text := range filesIn(z.h, "/etc/zypp/repos.d", ".repo") {
		for _, id := range iniSections(text) {
			switch strings.ToLower(iniValues(text, id)["enabled"]) {
			case "0", "no", "false", "off":
				continue
			}
			for _, key := range (iniList{section: id, keys: []string{"gpgkey"}}).read(text) {
				if file, local := strings.CutPrefix(key, "file://"); local && path.IsAbs(file) && !slices.Contains(files, file) {
					files = append(files, file)
				}
			}
		}
	}
	return files
}
