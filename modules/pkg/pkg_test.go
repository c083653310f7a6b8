package pkg

import (
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
	"trued.dev/trued/internal/resource/resourcetest"
)

func TestModuleKeepsItsPromises(t *testing.T) {
	cases := map[string]struct {
		before  func(f *fake)
		declare Resource
		leaves  bool
	}{
		"present":      {declare: Resource{Package: "nginx"}},
		"with version": {declare: Resource{Package: "nginx", Version: "1"}},
		"latest": {before: func(f *fake) { f.install("nginx", "1") }, leaves: true,
			declare: Resource{Package: "nginx", State: "latest"}},
		"held": {before: func(f *fake) { f.install("nginx", "2") }, declare: Resource{Package: "nginx", Hold: yes()}},
		"absent": {before: func(f *fake) { f.install("nginx", "2") }, leaves: true,
			declare: Resource{Package: "nginx", State: "absent"}},
		"purged": {before: func(f *fake) { f.install("nginx", "2") }, leaves: true,
			declare: Resource{Package: "nginx", State: "purged"}},
	}
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			f.index["nginx"] = []string{"2", "1"}
			f.index["nginx-common"] = []string{"2"}
			f.depends["nginx"] = []string{"nginx-common"}
			f.install("nginx-common", "2")
			if tt.before != nil {
				tt.before(f)
			}
			resourcetest.Run(t, resourcetest.Case{
				Module: func() resource.Module { return newModule(f) },
				Resource: func(m resource.Module) resource.Resource {
					r := m.New().(*Resource)
					made := r.m
					*r = tt.declare
					r.m = made
					return r
				},
				State:  func(testing.TB) string { return f.String() },
				Leaves: tt.leaves,
			})
		})
	}
}

func TestSensitivePackageSaysNothing(t *testing.T) {
	f := newFake()
	f.index["nginx"] = []string{"1.2.3-secret"}
	f.index["lib"] = nil
	resourcetest.Run(t, resourcetest.Case{
		Module: func() resource.Module { return newModule(f) },
		Resource: func(m resource.Module) resource.Resource {
			r := m.New().(*Resource)
			r.Package, r.Version = "nginx", "1.2.3-secret"
			return r
		},
		State:  func(testing.TB) string { return f.String() },
		Secret: "1.2.3-secret",
	})
}

func TestValidateNamesWhatIsWrong(t *testing.T) {
	tests := []struct {
		give  Resource
		field string // empty: nothing
	}{
		{Resource{Package: "nginx"}, ""},
		{Resource{Package: "libc6:i386"}, ""},
		{Resource{Package: "g++"}, ""},
		{Resource{Package: "nginx", Version: ">= 1:1.22, < 2", State: "latest", Hold: yes(), Conffiles: "keep"}, ""},
		{Resource{Package: ""}, "package"},
		{Resource{Package: "-o=Evil"}, "package"},
		{Resource{Package: "nginx=1.2"}, "package"},
		{Resource{Package: "two words"}, "package"},
		{Resource{Package: "nginx/stable"}, "package"},
		{Resource{Package: "nginx", State: "installed"}, "state"},
		{Resource{Package: "nginx", Version: ">> 2"}, "version"},
		{Resource{Package: "nginx", State: "absent", Version: "2"}, "version"},
		{Resource{Package: "nginx", State: "purged", Hold: yes()}, "hold"},
		{Resource{Package: "nginx", Conffiles: "old"}, "conffiles"},
	}
	for _, tt := range tests {
		err := tt.give.Validate()
		if tt.field == "" {
			if err != nil {
				t.Errorf("%+v: %v", tt.give, err)
			}
			continue
		}
		if err == nil || !strings.HasPrefix(err.Error(), tt.field+": ") {
			t.Errorf("%+v: error is %v, want one about %s", tt.give, err, tt.field)
		}
	}
}

func TestPackagesThatAreThereNeedNoIndex(t *testing.T) {
	w, f := fakeWorld(t)
	f.install("a", "1")
	f.install("b", "2")
	w.converge(Resource{Package: "a"}, Resource{Package: "b", Version: ">= 1"})
	if len(f.asked) != 0 || f.refreshes != 0 || f.simulated != 0 {
		t.Errorf("asked %v, refreshed %d times, simulated %d times", f.asked, f.refreshes, f.simulated)
	}
}

func TestIndexIsAskedOnceForAllThatIsMissing(t *testing.T) {
	w, f := fakeWorld(t)
	f.install("there", "1")
	for _, name := range []string{"a", "b", "c"} {
		f.index[name] = []string{"1"}
	}
	w.converge(Resource{Package: "a"}, Resource{Package: "there"}, Resource{Package: "b"}, Resource{Package: "c"})
	if len(f.asked) != 1 || strings.Join(f.asked[0], " ") != "a b c" {
		t.Errorf("asked %v", f.asked)
	}
	if f.refreshes != 0 || len(f.committed) != 1 {
		t.Errorf("refreshed %d times, %d transactions", f.refreshes, len(f.committed))
	}
}

func TestIndexIsRefreshedOnceForAllThatIsUnknown(t *testing.T) {
	w, f := fakeWorld(t)
	f.upstream["new"] = []string{"1"}
	out := w.run(t.Context(), []Resource{{Package: "new"}, {Package: "nowhere"}, {Package: "nor-here"}})
	if f.refreshes != 1 {
		t.Errorf("refreshed %d times", f.refreshes)
	}
	if out["new"].err != nil || out["nowhere"].err == nil || out["nor-here"].err == nil {
		t.Errorf("outcomes %+v", out)
	}
}

func TestIndexIsRefreshedForLatestOnceAnHour(t *testing.T) {
	w, f := fakeWorld(t)
	f.install("a", "1")
	f.index["a"], f.upstream["a"] = []string{"1"}, []string{"2", "1"}
	if out := w.converge(Resource{Package: "a", State: "latest"}); !out["a"].found.InOrder() || f.refreshes != 0 {
		t.Errorf("with a fresh index: %+v, refreshed %d times", out["a"].found, f.refreshes)
	}
	f.refreshed = time.Now().Add(-61 * time.Minute)
	out := w.converge(Resource{Package: "a", State: "latest"})
	if f.refreshes != 1 || f.have["a"].Version != "2" {
		t.Errorf("with an old index: refreshed %d times, installed is %s", f.refreshes, f.have["a"].Version)
	}
	if diff := out["a"].found.Diff; len(diff) != 1 || diff[0].Cause != resource.Intended {
		t.Errorf("difference is %+v", diff)
	}
}

func TestRefreshThatIsOwedIsDoneOnceForAll(t *testing.T) {
	f := newFake()
	m := newModule(f)
	f.configured = time.Now().Add(-time.Second)
	react := func() {
		r := m.New().(*Resource)
		r.Package = "a"
		if _, err := r.React(t.Context(), resource.View{}, []resource.Reaction{resource.Refresh}); err != nil {
			t.Fatal(err)
		}
	}
	react()
	react()
	if f.refreshes != 1 {
		t.Errorf("refreshed %d times", f.refreshes)
	}
	f.configured = time.Now().Add(time.Second) // another file changed meanwhile
	react()
	if f.refreshes != 2 {
		t.Errorf("after another change, refreshed %d times", f.refreshes)
	}
}

func TestWhatConfiguresTheManagerComesFirst(t *testing.T) {
	r := New(host.New(t.TempDir(), host.Options{})).New().(*Resource)
	var named []string
	for _, need := range r.Needs() {
		if need.Reaction != resource.Refresh {
			t.Errorf("%s owes %q", need.Claim, need.Reaction)
		}
		named = append(named, need.Claim.String())
	}
	for _, want := range []string{"path:/etc/apt/sources.list", "path:/etc/apt/sources.list.d/*", "path:/etc/apt/preferences.d/*",
		"path:/etc/apt/keyrings/*", "path:/usr/share/keyrings/*", "path:/etc/apt/apt.conf.d/*", "path:/etc/apt/trusted.gpg.d/*",
		"path:/etc/yum.repos.d/*", "path:/etc/zypp/repos.d/*", "path:/etc/pacman.conf", "path:/etc/pacman.d/*"} {
		if !strings.Contains(strings.Join(named, " ")+" ", want+" ") {
			t.Errorf("%s is not among %v", want, named)
		}
	}
}
