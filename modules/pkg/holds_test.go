package pkg

import (
	"slices"
	"strings"
	"testing"
)

func holdLists() map[string]holdList {
	return map[string]holdList{
		"versionlock": versionLocks("/x"), "excludepkgs": configuredHolds("/x", "main", ",", "excludepkgs", "exclude"),
		"IgnorePkg": configuredHolds("/x", "options", " ", "IgnorePkg"), "zypper": zypperLocks(),
	}
}

func TestListsOfHeldPackagesAreReadAndEdited(t *testing.T) {
	nginx := []*record{{Name: "nginx", Version: "1:1.22-3"}}
	const zypped = "\ntype: package\nmatch_type: glob\ncase_sensitive: on\nsolvable_name: bash\n\n" +
		"\ntype: package\nmatch_type: glob\ncase_sensitive: on\nsolvable_name: kernel\nversion: 6\n\n"
	tests := []struct {
		list, text string
		names      string
		hold       []*record
		unhold     []string
		want       string
	}{
		{"versionlock", "# by hand\nbash-0:5.2-1.*\n!vim-0:9-1.*\n", "bash", nginx, nil,
			"# by hand\nbash-0:5.2-1.*\n!vim-0:9-1.*\nnginx-1:1.22-3.*\n"},
		{"versionlock", "nginx-1:1.20-1.*\nnginx-1:1.21-1.*\na-b-c-0:1-1.*", "nginx a-b-c", nginx, nil, "a-b-c-0:1-1.*\nnginx-1:1.22-3.*\n"},
		{"versionlock", "nginx-1:1.20-1.*\nnginx-mod-0:1-1.*\n", "nginx nginx-mod", nil, []string{"nginx"}, "nginx-mod-0:1-1.*\n"},
		{"excludepkgs", "[main]\ngpgcheck=1\n", "", nginx, nil, "[main]\nexcludepkgs = nginx\ngpgcheck=1\n"},
		{"excludepkgs", "", "", nginx, nil, "[main]\nexcludepkgs = nginx\n"},
		{"excludepkgs", "[main]\nexclude=a, b\n  c*\nbest=1\n[lab]\nexcludepkgs=d\n", "a b c*", nginx, []string{"b"},
			"[main]\nexcludepkgs = a,c*,nginx\nbest=1\n[lab]\nexcludepkgs=d\n"},
		{"excludepkgs", "[main]\nexcludepkgs=nginx\nbest=1", "nginx", nil, []string{"nginx"}, "[main]\nbest=1"},
		{"excludepkgs", "[main]", "", nginx, nil, "[main]\nexcludepkgs = nginx\n"},
		{"IgnorePkg", "[options]\n#IgnorePkg = x\nIgnorePkg = a b\nIgnorePkg=c\n[core]\nInclude = /etc/x\n", "a b c", nginx, []string{"a"},
			"[options]\n#IgnorePkg = x\nIgnorePkg = b c nginx\n[core]\nInclude = /etc/x\n"},
		{"IgnorePkg", "[options]\nIgnorePkg = nginx  a\n", "nginx a", nginx, nil, "[options]\nIgnorePkg = nginx  a\n"},
		{"zypper", zypped, "bash", nil, []string{"kernel"}, zypped},
		{"zypper", zypped, "bash", nginx, nil, strings.ReplaceAll(zypped, "\n\n\n", "\n\n") +
			"type: package\nmatch_type: glob\ncase_sensitive: on\nsolvable_name: nginx\n\n"},
		{"zypper", "\ntype: package\nsolvable_name: bash\n\n", "bash", nil, []string{"bash"}, ""},
		{"zypper", "type: patch\nsolvable_name: bash\n\nmatch_type: regex\nsolvable_name: bash\n", "", nil, nil, "type: patch\nsolvable_name: bash\n\nmatch_type: regex\nsolvable_name: bash\n"},
	}
	for _, tt := range tests {
		l := holdLists()[tt.list]
		if got := strings.Join(l.read(tt.text), " "); got != tt.names {
			t.Errorf("%s %q holds %q, want %q", tt.list, tt.text, got, tt.names)
		}
		if got := l.edit(tt.text, tt.hold, tt.unhold); got != tt.want {
			t.Errorf("%s %q becomes\n%q, want\n%q", tt.list, tt.text, got, tt.want)
		}
	}
}

// Whatever a list looks like, what is held in it is held afterwards, what is let
// go is not, and the rest stays.
func FuzzHeldPackagesAreHeldAndTheRestStays(f *testing.F) {
	f.Add("# by hand\nbash-0:5.2-1.*\n!vim-0:9-1.*\n")
	f.Add("[main]\nexclude=a, b\n  c*\nbest=1\n[lab]\nexcludepkgs=d\n")
	f.Add("[options]\nIgnorePkg = a b\nIgnorePkg=c\n")
	f.Add("\ntype: package\nmatch_type: glob\ncase_sensitive: on\nsolvable_name: bash\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		for name, l := range holdLists() {
			before := l.read(text)
			held := l.edit(text, []*record{{Name: "nginx", Version: "1-1"}}, nil)
			after := l.read(held)
			if !slices.Contains(after, "nginx") {
				t.Errorf("%s: %q became %q, which does not hold it", name, text, held)
			}
			for _, other := range before {
				if !slices.Contains(after, other) {
					t.Errorf("%s: %q became %q, and lost %q", name, text, held, other)
				}
			}
			if free := l.edit(held, nil, []string{"nginx"}); slices.Contains(l.read(free), "nginx") {
				t.Errorf("%s: %q became %q, which still holds it", name, held, free)
			}
		}
	})
}
