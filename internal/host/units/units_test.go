package units

import (
	"slices"
	"testing"
	"time"

	"trued.dev/trued/internal/resource"
)

func TestClaimsAreTheUnitItsFileAndDropIns(t *testing.T) {
	u := Unit{Name: "a.service", File: resource.Bytes(nil), DropIns: map[string]string{"20-b.conf": "", "10-a": ""}}
	var got []string
	for _, c := range u.Claims() {
		got = append(got, c.String())
	}
	want := []string{
		"unit:a.service", "path:/etc/systemd/system/a.service",
		"path:/etc/systemd/system/a.service.d/10-a.conf", "path:/etc/systemd/system/a.service.d/20-b.conf",
	}
	if !slices.Equal(got, want) {
		t.Errorf("claims are %v, want %v", got, want)
	}
}

func TestNeedsAreAllFilesThatMakeUpTheUnit(t *testing.T) {
	u := Unit{Name: `app@a\x2db.service`}
	needs := u.Needs()
	for _, name := range []string{
		`/etc/systemd/system/app@a\x2db.service`, "/usr/lib/systemd/system/app@.service", "/run/systemd/system/app@.service",
		`/etc/systemd/system/app@a\x2db.service.d/x.conf`, "/etc/systemd/system/app@.service.d/x.conf",
	} {
		if !slices.ContainsFunc(needs, func(n resource.Need) bool {
			if n.Reaction != resource.Restart {
				return false
			}
			if !n.Glob {
				return n.Claim == resource.Path(name)
			}
			ok, err := resource.Address{Kind: "path", Name: name}.Match("path:" + n.Claim.Name)
			return ok && err == nil
		}) {
			t.Errorf("a change of %s causes no restart", name)
		}
	}
	own := Unit{Name: "b.service", File: resource.Bytes(nil)}
	for _, n := range own.Needs() {
		if n.Claim == resource.Path("/etc/systemd/system/b.service") {
			t.Error("the unit needs its own file, which it claims")
		}
	}
}

func TestAttemptCountsForAnHourOfThisBoot(t *testing.T) {
	tests := []struct {
		name   string
		last   *attempt
		recent bool
	}{
		{"none", nil, false},
		{"just now", &attempt{Boot: "this", At: time.Now(), Unmet: "x"}, true},
		{"more than an hour ago", &attempt{Boot: "this", At: time.Now().Add(-61 * time.Minute), Unmet: "x"}, false},
		{"in another boot", &attempt{Boot: "that", At: time.Now(), Unmet: "x"}, false},
		{"by a clock that was put back", &attempt{Boot: "this", At: time.Now().Add(time.Minute), Unmet: "x"}, false},
		{"work that was done", &attempt{Boot: "this", At: time.Now().Add(-48 * time.Hour)}, true},
	}
	for _, test := range tests {
		if got := test.last.recent("this"); got != test.recent {
			t.Errorf("%s: recent is %v", test.name, got)
		}
	}
}

func TestAStartIsRememberedBesideWhatWasThereBefore(t *testing.T) {
	n := takeNotes(nil)
	if err := n.add(Claim("a.service"), before{Exists: true, Active: true, Enabled: "disabled"}); err != nil {
		t.Fatal(err)
	}
	if err := n.remember("a.service", &attempt{Boot: "this", Unmet: "x"}); err != nil {
		t.Fatal(err)
	}
	got, noted, err := readBefore(n.changed(), "a.service")
	if err != nil || !noted || !got.Exists || !got.Active || got.Enabled != "disabled" || got.Last == nil {
		t.Errorf("what is noted is %+v, %v, %v", got, noted, err)
	}
	if err := n.remember("a.service", nil); err != nil {
		t.Fatal(err)
	}
	if got, _, _ := readBefore(n.changed(), "a.service"); got.Last != nil {
		t.Errorf("a start that took is remembered: %+v", got)
	}
}
