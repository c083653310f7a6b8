package pkg

import (
	"os"
	"strings"
	"testing"
)

func TestInside(t *testing.T) {
	inside(t)
	useRepository(t)
	for _, s := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"a missing package is installed, removed, purged", installAndRemove},
		{"a version follows its constraint", followConstraint},
		{"latest follows the index", followLatest},
		{"a held package stays and moves when told", held},
		{"what cannot be had keeps nothing else away", culprits},
		{"conffiles are answered as declared", conffiles},
		{"a virtual name is told apart", virtual},
		{"what was half done is repaired", repair},
		{"removals that nobody declared are refused", refusals},
		{"what trued installed goes with what it brought", prune},
		{"the lock of another is waited for", lock},
		{"the locks of the index and the archive are waited for", indexLock},
		{"a tree is brought into order by its own apt", offline},
		{"an agent lets go and another attaches", letGoAndAttach},
		{"architectures are told apart", architectures},
	} {
		t.Run(strings.ReplaceAll(s.name, " ", "-"), s.run)
	}
}

func installAndRemove(t *testing.T) {
	publish(t, deb{name: "plain", version: "1.0-1", conffiles: map[string]string{"/etc/plain.conf": "a\n"}})
	w := newWorld(t)
	// The index is older than the package: it is refreshed because the name is unknown.
	out := w.converge(Resource{Package: "plain"})
	expectState(t, "plain", "ii 1.0-1")
	if !strings.Contains(out["plain"].found.Note, "does not know it") {
		t.Errorf("note is %q", out["plain"].found.Note)
	}
	if again := w.converge(Resource{Package: "plain"}); !again["plain"].found.InOrder() {
		t.Errorf("second run found %+v", again["plain"].found)
	}
	w.converge(Resource{Package: "plain", State: "absent"})
	expectState(t, "plain", "rc 1.0-1")
	if again := w.converge(Resource{Package: "plain", State: "absent"}); !again["plain"].found.InOrder() {
		t.Errorf("removed, Check found %+v", again["plain"].found)
	}
	w.converge(Resource{Package: "plain", State: "purged"})
	expectState(t, "plain", "")
	w.converge(Resource{Package: "plain"})
	w.converge(Resource{Package: "plain", State: "purged"})
	expectState(t, "plain", "")
	if _, err := os.Stat("/etc/plain.conf"); err == nil {
		t.Error("the configuration of a purged package is there")
	}
}

func followConstraint(t *testing.T) {
	publish(t, deb{name: "vers", version: "1.0-1"}, deb{name: "vers", version: "1.5-2"}, deb{name: "vers", version: "2.0~rc1-1"},
		deb{name: "vers", version: "2.0-1"}, deb{name: "epoch", version: "1:0.5-1"})
	refresh(t)
	w := newWorld(t)
	w.converge(Resource{Package: "vers", Version: ">= 1, < 2~"})
	expectState(t, "vers", "ii 1.5-2")
	w.converge(Resource{Package: "vers"})
	expectState(t, "vers", "ii 1.5-2")
	w.converge(Resource{Package: "vers", Version: ">= 2"})
	expectState(t, "vers", "ii 2.0-1")
	out := w.run(t.Context(), []Resource{{Package: "vers", Version: "= 1.5"}})
	if err := out["vers"].err; err == nil || !strings.Contains(err.Error(), "allow_downgrade") {
		t.Errorf("a downgrade that was not allowed gave %v", err)
	}
	expectState(t, "vers", "ii 2.0-1")
	w.converge(Resource{Package: "vers", Version: "= 1.5", AllowDowngrade: true})
	expectState(t, "vers", "ii 1.5-2")
	out = w.run(t.Context(), []Resource{{Package: "vers", Version: "> 7"}})
	if err := out["vers"].err; err == nil || !strings.Contains(err.Error(), "2.0-1") {
		t.Errorf("a version that there is not gave %v", err)
	}
	out = w.converge(Resource{Package: "epoch", Version: ">= 0.1"})
	if note := out["epoch"].found.Note; !strings.Contains(note, "1:0.1") {
		t.Errorf("the epoch is not remarked: %q", note)
	}
}

func followLatest(t *testing.T) {
	publish(t, deb{name: "newest", version: "1"})
	refresh(t)
	w := newWorld(t)
	w.converge(Resource{Package: "newest", State: "latest"})
	expectState(t, "newest", "ii 1")
	publish(t, deb{name: "newest", version: "2"})
	if out := w.converge(Resource{Package: "newest", State: "latest"}); !out["newest"].found.InOrder() {
		t.Errorf("an index that is fresh was refreshed: %+v", out["newest"].found)
	}
	// The index grows old.
	shell(t, "rm -f "+runDir+"/refreshed /var/lib/apt/periodic/update-success-stamp; touch -d '2 hours ago' "+aptLists)
	out := w.converge(Resource{Package: "newest", State: "latest"})
	expectState(t, "newest", "ii 2")
	if diff := out["newest"].found.Diff; len(diff) != 1 || diff[0].Cause != "intended" {
		t.Errorf("difference is %+v", diff)
	}
}

func held(t *testing.T) {
	publish(t, deb{name: "kept", version: "1"}, deb{name: "kept", version: "2"}, deb{name: "other", version: "1"})
	refresh(t)
	w := newWorld(t)
	w.converge(Resource{Package: "kept", Version: "1", Hold: yes()})
	expectState(t, "kept", "hi 1")
	w.converge(Resource{Package: "kept", Version: "2", Hold: yes()})
	expectState(t, "kept", "hi 2")
	w.converge(Resource{Package: "kept", Version: "1", AllowDowngrade: true})
	expectState(t, "kept", "hi 1")
	w.converge(Resource{Package: "kept", Hold: no()})
	expectState(t, "kept", "ii 1")
	w.converge(Resource{Package: "kept", Version: "2", Hold: yes()}, Resource{Package: "other"})
	expectState(t, "kept", "hi 2")
	// A hold of the operator's own comes back when the package leaves Git.
	publish(t, deb{name: "mine", version: "1"})
	refresh(t)
	shell(t, "apt-get install -y mine && apt-mark hold mine")
	w.converge(Resource{Package: "mine", Hold: no()})
	expectState(t, "mine", "ii 1")
	w.run(t.Context(), nil, "mine")
	expectState(t, "mine", "hi 1")
}

func culprits(t *testing.T) {
	publish(t,
		deb{name: "good-a", version: "1"}, deb{name: "good-b", version: "1"}, deb{name: "good-c", version: "1"},
		deb{name: "lacking", version: "1", fields: "Depends: not-to-be-had"},
		deb{name: "failing", version: "1", scripts: map[string]string{"postinst": "echo cannot be set up; exit 3"}},
		deb{name: "needs-failing", version: "1", fields: "Depends: failing"},
		deb{name: "stuck", version: "1", scripts: map[string]string{"preinst": "echo cannot be unpacked; exit 3"}},
	)
	refresh(t)
	w := newWorld(t)
	out := w.run(t.Context(), []Resource{
		{Package: "good-a"}, {Package: "no-such"}, {Package: "lacking"}, {Package: "good-b"},
		{Package: "stuck"}, {Package: "needs-failing"}, {Package: "good-c"},
	})
	for name, want := range map[string]string{
		"no-such": "does not know it", "lacking": "not-to-be-had", "stuck": "cannot be unpacked", "needs-failing": "failing",
	} {
		if err := out[name].err; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want one with %q", name, err, want)
		}
	}
	for _, name := range []string{"good-a", "good-b", "good-c"} {
		if err := out[name].err; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		expectState(t, name, "ii 1")
	}
	shell(t, "dpkg --purge needs-failing failing stuck 2>&1 || true")

	// A file that went from the repository since the index was fetched.
	publish(t, deb{name: "moved", version: "1"}, deb{name: "good-d", version: "1"})
	refresh(t)
	shell(t, "rm "+repository+"/moved_1_all.deb")
	publish(t, deb{name: "moved", version: "2"})
	w.converge(Resource{Package: "moved"}, Resource{Package: "good-d"})
	expectState(t, "moved", "ii 2")
	publish(t, deb{name: "vanished", version: "1"}, deb{name: "good-e", version: "1"})
	refresh(t)
	shell(t, "rm "+repository+"/vanished_1_all.deb")
	out = w.run(t.Context(), []Resource{{Package: "vanished"}, {Package: "good-e"}})
	if out["vanished"].err == nil || out["good-e"].err != nil {
		t.Errorf("vanished: %v; good-e: %v", out["vanished"].err, out["good-e"].err)
	}
	publish(t)
	refresh(t)
}

func conffiles(t *testing.T) {
	of := func(version, content string) deb {
		return deb{name: "conf", version: version, conffiles: map[string]string{"/etc/conf.conf": content}}
	}
	publish(t, of("1", "one\n"), of("2", "two\n"), of("3", "three\n"))
	refresh(t)
	w := newWorld(t)
	w.converge(Resource{Package: "conf", Version: "1"})
	write(t, "/etc/conf.conf", "mine\n", 0o644)
	w.converge(Resource{Package: "conf", Version: "2"})
	if got := shell(t, "cat /etc/conf.conf"); got != "mine" {
		t.Errorf("kept, it is %q", got)
	}
	w.converge(Resource{Package: "conf", Version: "3", Conffiles: "replace"})
	if got := shell(t, "cat /etc/conf.conf"); got != "three" {
		t.Errorf("replaced, it is %q", got)
	}
	publish(t, deb{name: "suggested", version: "1"}, deb{name: "spare", version: "1", fields: "Recommends: suggested"})
	refresh(t)
	w.converge(Resource{Package: "spare", Recommends: no()})
	expectState(t, "suggested", "")
	w.converge(Resource{Package: "spare", State: "absent"})
	w.converge(Resource{Package: "spare", Recommends: yes()})
	expectState(t, "suggested", "ii 1")
}

func virtual(t *testing.T) {
	publish(t, deb{name: "one-mta", version: "1", fields: "Provides: lone-service (= 2.5)"},
		deb{name: "prov-a", version: "1", fields: "Provides: twin-service"},
		deb{name: "prov-b", version: "1", fields: "Provides: twin-service"})
	refresh(t)
	w := newWorld(t)
	w.converge(Resource{Package: "lone-service"})
	expectState(t, "one-mta", "ii 1")
	out := w.run(t.Context(), []Resource{{Package: "twin-service"}})
	if err := out["twin-service"].err; err == nil || !strings.Contains(err.Error(), "prov-a, prov-b") {
		t.Errorf("a name with two providers gave %v", err)
	}
	out = w.converge(Resource{Package: "prov-b"}, Resource{Package: "lone-service", Version: ">= 2"})
	if !out["lone-service"].found.InOrder() {
		t.Errorf("a version that is provided: %+v", out["lone-service"].found)
	}
	if out = w.converge(Resource{Package: "twin-service"}); !out["twin-service"].found.InOrder() {
		t.Errorf("a provider is there: %+v", out["twin-service"].found)
	}
	w.run(t.Context(), nil, "lone-service", "twin-service")
	expectState(t, "one-mta", "")
	expectState(t, "prov-b", "ii 1")
}

func repair(t *testing.T) {
	publish(t, deb{name: "shaky", version: "1", scripts: map[string]string{"postinst": "test ! -e /srv/fail"}},
		deb{name: "loose", version: "1", fields: "Depends: good-z"}, deb{name: "good-z", version: "1"})
	refresh(t)
	w := newWorld(t)
	write(t, "/srv/fail", "", 0o644)
	out := w.run(t.Context(), []Resource{{Package: "shaky"}})
	if err := out["shaky"].err; err == nil || !strings.Contains(err.Error(), "half-configured") {
		t.Errorf("a package that cannot be set up gave %v", err)
	}
	expectState(t, "shaky", "iF 1")
	shell(t, "rm /srv/fail")
	out = w.converge(Resource{Package: "shaky"})
	if diff := out["shaky"].found.Diff; len(diff) != 1 || diff[0].Old != "half-configured" {
		t.Errorf("difference is %+v", diff)
	}
	expectState(t, "shaky", "ii 1")
	// One that somebody unpacked without what it depends on.
	shell(t, "dpkg --unpack "+repository+"/loose_1_all.deb")
	w.converge(Resource{Package: "loose"})
	expectState(t, "loose", "ii 1")
	expectState(t, "good-z", "ii 1")
	// One that dpkg was cut off in.
	shell(t, `sed -i '/^Package: shaky$/,/^$/s/^Status: .*/Status: install reinstreq half-installed/' `+dpkgStatus)
	w.converge(Resource{Package: "shaky"})
	expectState(t, "shaky", "ii 1")
}

func refusals(t *testing.T) {
	publish(t, deb{name: "base-lib", version: "1"}, deb{name: "user-app", version: "1", fields: "Depends: base-lib"},
		deb{name: "rival", version: "1", fields: "Conflicts: user-app"}, deb{name: "innocent", version: "1"},
		deb{name: "trued", version: "1", fields: "Depends: base-lib"})
	refresh(t)
	shell(t, "apt-get install -y user-app trued")
	w := newWorld(t)
	out := w.run(t.Context(), []Resource{
		{Package: "rival"}, {Package: "innocent"}, {Package: "base-lib", State: "absent"}, {Package: "trued", State: "absent"}, {Package: "bash", State: "purged"},
	})
	for name, want := range map[string]string{
		"rival": "user-app", "base-lib": "trued itself", "trued": "trued itself", "bash": "essential",
	} {
		if err := out[name].err; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want one with %q", name, err, want)
		}
	}
	if err := out["innocent"].err; err != nil {
		t.Errorf("innocent: %v", err)
	}
	expectState(t, "user-app", "ii 1")
	shell(t, "dpkg --purge trued")
	out = w.run(t.Context(), []Resource{{Package: "base-lib", State: "absent"}})
	if err := out["base-lib"].err; err == nil || !strings.Contains(err.Error(), "would remove user-app") {
		t.Errorf("base-lib: error is %v", err)
	}
	w.converge(Resource{Package: "user-app", State: "absent"}, Resource{Package: "base-lib", State: "purged"}, Resource{Package: "rival"})
	expectState(t, "rival", "ii 1")
	expectState(t, "base-lib", "")
}

func prune(t *testing.T) {
	publish(t, deb{name: "app", version: "1", fields: "Depends: app-common, app-shared, app-old"},
		deb{name: "app-common", version: "1"}, deb{name: "app-shared", version: "1"}, deb{name: "app-old", version: "1"},
		deb{name: "app-declared", version: "1", fields: "Depends: app-shared"}, deb{name: "was-there", version: "1"})
	refresh(t)
	shell(t, "apt-get install -y was-there app-old && apt-mark auto app-old was-there")
	w := newWorld(t)
	w.converge(Resource{Package: "app"}, Resource{Package: "app-declared"}, Resource{Package: "was-there"})
	out := w.run(t.Context(), []Resource{{Package: "app-declared"}}, "app", "was-there")
	for name, o := range out {
		if o.err != nil {
			t.Errorf("%s: %v", name, o.err)
		}
	}
	expectState(t, "app", "")
	expectState(t, "app-common", "")
	expectState(t, "app-shared", "ii 1")
	expectState(t, "app-old", "ii 1") // it was there before
	expectState(t, "was-there", "ii 1")
}

func architectures(t *testing.T) {
	foreign := "i386"
	publish(t, deb{name: "multi", version: "1", arch: "amd64", fields: "Multi-Arch: same"},
		deb{name: "multi", version: "1", arch: foreign, fields: "Multi-Arch: same"})
	shell(t, "dpkg --add-architecture "+foreign)
	refresh(t)
	w := newWorld(t)
	w.converge(Resource{Package: "multi:" + foreign})
	expectState(t, "multi:"+foreign, "ii 1")
	expectState(t, "multi:amd64", "")
	w.converge(Resource{Package: "multi"}, Resource{Package: "multi:" + foreign})
	expectState(t, "multi:amd64", "ii 1")
	w.converge(Resource{Package: "multi:" + foreign, State: "purged"}, Resource{Package: "multi"})
	expectState(t, "multi:"+foreign, "")
	expectState(t, "multi:amd64", "ii 1")
}
