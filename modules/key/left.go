package key

import (
	"slices"

	"trued.dev/trued/internal/host/shared"
	"trued.dev/trued/internal/resource"
)

// moved is what another user was let in with before.
func (r *Resource) moved(view resource.View) (shared.Moved, error) {
	return shared.MovedFrom(r, view, New(r.host).Absent, func(c resource.Claim) bool { return c.Name == r.user() })
}

// wereOnly reports whether all keys of the user were held up to now, by this
// resource or by one that it takes the place of.
func (r *Resource) wereOnly(view resource.View) bool {
	whole := keyClaim(r.user(), "")
	_, known := view.Prior[whole]
	return known && !r.Exclusive && !r.absent() && (len(view.Held) == 0 || slices.Contains(view.Held, whole))
}

// othersOf returns the keys that stay where these were the only ones before: those
// that other resources have, and all of them where nothing is to go.
func (r *Resource) othersOf(f *file, view resource.View) map[string]bool {
	others := map[string]bool{}
	for _, line := range f.lines {
		blob := blobOf(line)
		_, managed := view.Owner(keyClaim(f.user.Name, blob))
		others[blob] = managed && blob != "" || r.Keeps()
	}
	return others
}

// left returns the keys that this resource held and claims no longer.
func (r *Resource) left(view resource.View) (map[string]noted, error) {
	if r.Exclusive {
		return nil, nil
	}
	claims := r.Claims()
	left := map[string]noted{}
	for _, c := range view.Held {
		if c.Space != Space || c.Name != r.user() || c.Part == "" || slices.Contains(claims, c) {
			continue
		}
		if _, managed := view.Owner(c); managed {
			continue
		}
		n, _, err := takeNoted(view.Prior, c)
		if err != nil {
			return nil, err
		}
		left[c.Part] = n
	}
	return left, nil
}
