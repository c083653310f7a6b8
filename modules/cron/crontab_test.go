package cron

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

// crontabs is a tree with the crontab of a user; none for "".
func crontabs(t *testing.T, had string) (h *host.Host, root, file string) {
	t.Helper()
	h, root = tree(t, "")
	file = filepath.Join(root, "var/spool/cron/crontabs/app")
	err := os.MkdirAll(filepath.Dir(file), 0o755)
	if had != "" {
		err = errors.Join(err, os.WriteFile(file, []byte(had), 0o600))
		if os.Geteuid() == 0 {
			err = errors.Join(err, os.Chown(file, 34, 34))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return h, root, file
}

func TestAnEntryOfACrontabLeavesTheOthersAlone(t *testing.T) {
	const mark, line = "# Kept by trued: cron:job\n", "0 2 * * * date +\\%F\n"
	gone := Resource{Title: "job", User: "app", Crontab: true, State: "absent"}
	for name, c := range map[string]struct {
		had  string
		gone bool
		want string
	}{
		"no crontab":                 {"", false, mark + line},
		"at the end":                 {"MAILTO=ops\n@daily false\n", false, "MAILTO=ops\n@daily false\n" + mark + line},
		"no final newline":           {"@daily false", false, "@daily false\n" + mark + line},
		"another schedule":           {mark + "1 1 * * * date\n@daily false\n", false, mark + line + "@daily false\n"},
		"one that was there by hand": {"@daily false\n" + line + "# end\n", false, "@daily false\n" + mark + line + "# end\n"},
		"a comment alone":            {mark + "# other\n@daily false\n", false, mark + line + "# other\n@daily false\n"},
		"another's entry":            {"# Kept by trued: cron:job2\n@daily b\n", false, "# Kept by trued: cron:job2\n@daily b\n" + mark + line},
		"one to go":                  {"@daily false\n" + mark + line + "# end\n", true, "@daily false\n# end\n"},
		"none to go":                 {"@daily false\n", true, "@daily false\n"},
	} {
		t.Run(name, func(t *testing.T) {
			h, _, file := crontabs(t, c.had)
			fill := Resource{Title: "job", Schedule: "0 2 * * *", Line: "date +%F", User: "app", Crontab: true}
			if c.gone {
				fill = gone
			}
			m, e := New(h), &resourcetest.Engine{Offline: true}
			r := filled(m, fill)
			if err := errors.Join(r.Validate(), e.Converge(t.Context(), m, r)); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(file); err != nil || string(got) != c.want {
				t.Errorf("the crontab is\n%s, error %v, want\n%s", got, err, c.want)
			}
			if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
				t.Errorf("it is %v, error %v", info, err)
			}
			if c.want == c.had {
				return
			}
			// The same once more as a module, which gives back what was there.
			h, root, _ := crontabs(t, c.had)
			resourcetest.Run(t, resourcetest.Case{
				Module:   func() resource.Module { return New(h) },
				Resource: func(m resource.Module) resource.Resource { return filled(m, fill) },
				Dirs:     []string{root}, Offline: true,
			})
		})
	}
}

func TestACrontabIsOneThatCronTakes(t *testing.T) {
	h, _, file := crontabs(t, "@daily false\n")
	m, e := New(h), &resourcetest.Engine{Offline: true}
	r := filled(m, Resource{Title: "job", Schedule: "@daily", Line: "true", User: "app", Crontab: true})
	if err := errors.Join(e.Converge(t.Context(), m, r), os.Chmod(file, 0o644)); err != nil {
		t.Fatal(err)
	}
	found, err := e.Check(t.Context(), m, r)
	if err != nil || len(found.Diff) != 1 || !found.Diff.Has(host.FieldMode) {
		t.Errorf("found %+v, error %v", found, err)
	}
	if err := e.Converge(t.Context(), m, r); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("it is %v, error %v", info, err)
	}
}

func TestAnEntryThatMovesRunsNoMoreWhereItWas(t *testing.T) {
	own := Resource{Title: "job", Schedule: "@daily", Line: "true"}
	of := func(user string) Resource {
		return Resource{Title: "job", Schedule: "@daily", Line: "true", User: user, Crontab: true}
	}
	for name, steps := range map[string][]Resource{
		"to another user's crontab": {of("app"), of("root")},
		"to a file of its own":      {of("app"), own},
		"from one":                  {own, of("app")},
		"and back":                  {of("app"), own, of("app")},
	} {
		t.Run(name, func(t *testing.T) {
			h, root, _ := crontabs(t, "@daily false\n")
			m, e := New(h), &resourcetest.Engine{Offline: true}
			var r *Resource
			for _, fill := range steps {
				r = filled(m, fill)
				if err := errors.Join(r.Validate(), e.Converge(t.Context(), m, r)); err != nil {
					t.Fatal(err)
				}
				if found, err := e.Check(t.Context(), m, r); err != nil || !found.InOrder() {
					t.Errorf("found %+v, error %v", found, err)
				}
			}
			at := func() (found []string) {
				for _, name := range []string{"etc/cron.d/job", "var/spool/cron/crontabs/app", "var/spool/cron/crontabs/root"} {
					if text, err := os.ReadFile(filepath.Join(root, name)); err == nil && strings.Contains(string(text), "cron:job") {
						found = append(found, "/"+name)
					}
				}
				return found
			}
			if got := at(); len(got) != 1 || got[0] != r.Claims()[0].Name {
				t.Errorf("it is in %v, want %s", got, r.Claims()[0].Name)
			}
			gone, err := e.Absent(m, r)
			if err == nil {
				err = e.Leave(t.Context(), m, r, gone)
			}
			if got := at(); len(got) > 0 || err != nil {
				t.Errorf("it is still in %v, error %v", got, err)
			}
		})
	}
}

func TestACrontabWaitsForCron(t *testing.T) {
	h, _ := tree(t, "")
	m, e := New(h), &resourcetest.Engine{Offline: true}
	r := filled(m, Resource{Title: "job", Schedule: "@daily", Line: "true", User: "app", Crontab: true})
	if _, err := e.Check(t.Context(), m, r); err == nil || !strings.Contains(err.Error(), "declare the package that brings cron") {
		t.Errorf("without cron: %v", err)
	}
	cron := resource.Claim{Space: resource.SpacePackage, Name: "cron"}
	if !slices.Contains(r.Needs(), resource.Need{Claim: cron}) {
		t.Error("it does not come after cron")
	}
	e.Owner = func(c resource.Claim) (resource.Address, bool) {
		return resource.Address{Kind: "package", Name: "cron"}, c == cron
	}
	if found, err := e.Check(t.Context(), m, r); err != nil || found.Unknown != "package:cron brings /var/spool/cron/crontabs" {
		t.Errorf("before cron is installed: %+v, %v", found, err)
	}
}
