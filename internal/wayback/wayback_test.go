package wayback

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"trued.dev/trued/internal/resource"
)

func at(boot string, s int) resource.Moment {
	return resource.Moment{Boot: boot, Micros: uint64(s) * 1e6}
}

func armed(t *testing.T) Dir {
	t.Helper()
	dir := t.TempDir()
	program, config, rules := filepath.Join(dir, "program"), filepath.Join(dir, "config"), filepath.Join(dir, "rules")
	for name, text := range map[string]string{program: "old program", config: "sources: []\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := Dir(filepath.Join(dir, "wayback"))
	o := Order{Run: "r", RunTimeout: time.Hour, ConfirmWithin: 5 * time.Minute, Begun: at("b1", 100)}
	if err := d.Arm(o, program, config, rules); err != nil {
		t.Fatal(err)
	}
	return d
}

// A newer commit that takes the place of the one on trial, or one that is tried once
// more, has all the time that a run may take, and is waited for anew after that.
func TestARunThatTakesThePlaceOfAnotherHasATimeOfItsOwn(t *testing.T) {
	d := armed(t)
	program, config := filepath.Join(t.TempDir(), "program"), filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(program, []byte("new program"), 0o600); err != nil {
		t.Fatal(err)
	}
	arm := func(run string, now resource.Moment) {
		t.Helper()
		if err := d.Arm(Order{Run: run, RunTimeout: time.Hour, ConfirmWithin: 5 * time.Minute, Begun: now}, program, config, ""); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(d.Path(ProgramFile)); string(got) != "old program" {
			t.Errorf("the program that is kept is %q", got)
		}
	}
	for n, before := range []Phase{Waiting, Returning} {
		run, now := string(before), at("b1", 1000*(n+1))
		if err := d.Move(before, now); err != nil {
			t.Fatal(err)
		}
		now.Micros += 250e6
		arm(run, now)
		now.Micros += 600e6
		if o := order(t, d); o.Phase != Running || o.Run != run || o.Due(now, false) <= 5*time.Minute+slack {
			t.Errorf("instead of %s the order is due in %s: %+v", before, o.Due(now, false), o)
		}
		// What the run is armed for once more is no new time.
		was := order(t, d)
		arm(run, now)
		if o := order(t, d); o.Begun != was.Begun {
			t.Errorf("the same run began at %+v, and at %+v", was.Begun, o.Begun)
		}
		if err := d.Move(Waiting, now); err != nil {
			t.Fatal(err)
		}
		if left := order(t, d).Due(now, true); left != 5*time.Minute+slack {
			t.Errorf("after the run it is due in %s", left)
		}
	}
	// Boots are counted all the same.
	arm("later", at("b2", 5))
	if o := order(t, d); len(o.Boots) != 2 {
		t.Errorf("it has seen the boots %q", o.Boots)
	}
}

func order(t *testing.T, d Dir) Order {
	t.Helper()
	o, err := d.Order()
	if err != nil || o == nil {
		t.Fatalf("there is no order: %v", err)
	}
	return *o
}

func TestAnOrderIsDue(t *testing.T) {
	const confirm, run = 5 * time.Minute, time.Hour
	base := Order{RunTimeout: run, ConfirmWithin: confirm, Begun: at("b1", 100), Boots: []string{"b1"}}
	for name, c := range map[string]struct {
		phase Phase
		moved resource.Moment
		boots []string
		now   resource.Moment
		free  bool
		want  time.Duration
	}{
		"a run may take its time":                          {Running, at("b1", 100), nil, at("b1", 700), false, run + confirm + slack - 10*time.Minute},
		"a run that is over is waited for to be confirmed": {Waiting, at("b1", 1000), nil, at("b1", 1060), true, confirm + slack - time.Minute},
		"nobody confirms":                                  {Waiting, at("b1", 1000), nil, at("b1", 1310), false, 0},
		"an agent that goes back is left alone":            {Returning, at("b1", 1000), nil, at("b1", 1060), false, backLimit - time.Minute},
		"one that died on the way is not":                  {Returning, at("b1", 1000), nil, at("b1", 1060), true, slack - time.Minute},
		"another boot begins anew":                         {Waiting, at("b1", 1000), nil, at("b2", 5), true, confirm + slack},
		"a host that keeps coming down":                    {Running, at("b4", 1), []string{"b1", "b2", "b3", "b4"}, at("b4", 2), false, 0},
	} {
		o := base
		o.Phase, o.Moved = c.phase, c.moved
		if c.boots != nil {
			o.Boots = c.boots
		}
		if got := o.Due(c.now, c.free); got != c.want {
			t.Errorf("%s: due in %s, want %s", name, got, c.want)
		}
	}
}

func TestARunWithoutAnAgentIsOver(t *testing.T) {
	d := armed(t)
	o := order(t, d)
	if o.Seen(at("b1", 130), false) || o.Phase != Running {
		t.Errorf("while an agent is at work the order became %+v", o)
	}
	if !o.Seen(at("b1", 160), true) || o.Phase != Waiting || o.Moved != at("b1", 160) {
		t.Errorf("with nobody at work the order is %+v", o)
	}
	if o.Seen(at("b1", 400), true) {
		t.Error("what was seen before was seen again")
	}
	if err := d.Write(o); err != nil {
		t.Fatal(err)
	}
	// An agent that starts over and over puts nothing off.
	for i := range 2 * resumes {
		if err := d.Resume(at("b1", 200+i)); err != nil {
			t.Fatal(err)
		}
		o = order(t, d)
		o.Seen(at("b1", 200+i), true)
		if err := d.Write(o); err != nil {
			t.Fatal(err)
		}
	}
	if o = order(t, d); o.Phase != Waiting || o.Moved != at("b1", 200+resumes-1) || o.Begun != at("b1", 100) {
		t.Errorf("after many starts the order is %+v", o)
	}
}

func TestAPhaseIsToldOnce(t *testing.T) {
	d := armed(t)
	for _, s := range []int{600, 800} {
		if err := d.Move(Waiting, at("b1", s)); err != nil {
			t.Fatal(err)
		}
	}
	if o := order(t, d); o.Phase != Waiting || o.Moved != at("b1", 600) || len(o.Boots) != 1 {
		t.Errorf("the order is %+v", o)
	}
	if err := d.Move(Waiting, at("b2", 7)); err != nil {
		t.Fatal(err)
	}
	if o := order(t, d); o.Moved != at("b2", 7) || len(o.Boots) != 2 {
		t.Errorf("after a reboot the order is %+v", o)
	}
	if err := d.Disarm(); err != nil {
		t.Fatal(err)
	}
	if o, err := d.Order(); o != nil || err != nil {
		t.Errorf("after disarming there is %+v, error %v", o, err)
	}
	if err := d.Move(Returning, at("b2", 9)); err != nil {
		t.Error(err)
	}
}

func TestAnOrderOfALaterReleaseIsRead(t *testing.T) {
	d := armed(t)
	data, err := os.ReadFile(d.Path(OrderFile))
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	all["new"] = map[string]any{"in": "a later release"}
	if data, err = json.Marshal(all); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.Path(OrderFile), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if o := order(t, d); o.Run != "r" || o.ConfirmWithin != 5*time.Minute {
		t.Errorf("read %+v", o)
	}
}

func TestTheBallastIsGivenBack(t *testing.T) {
	d := armed(t)
	for range 2 {
		if err := d.Load(); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(d.Path(ballastFile))
	if err != nil || info.Size() != ballastSize {
		t.Fatalf("the ballast is %v, error %v", info, err)
	}
	for range 2 {
		if err := d.Release(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(d.Path(ballastFile)); err == nil {
		t.Error("the ballast is there still")
	}
}

func TestAnOrderThatIsPostponedWaitsAsLongAgain(t *testing.T) {
	d := armed(t)
	if err := d.Move(Waiting, at("b1", 200)); err != nil {
		t.Fatal(err)
	}
	now := at("b1", 400)
	if err := d.Postpone(now); err != nil {
		t.Fatal(err)
	}
	if left := order(t, d).Due(now, true); left != 5*time.Minute+slack {
		t.Errorf("due in %s", left)
	}
	if err := d.Disarm(); err != nil {
		t.Fatal(err)
	}
	if err := d.Postpone(now); err == nil {
		t.Error("an order that is not there is put off")
	}
}

// What the host's rules were is kept from before the first commit that is on trial.
func TestTheRulesAreKeptFromBeforeTheChange(t *testing.T) {
	for what, c := range map[string]struct {
		before, after string
		want          Rules
	}{
		"there were rules": {"rules: []\n", "nonsense", RulesKept},
		"there were none":  {"", "nonsense", NoRules},
	} {
		dir := t.TempDir()
		d, rules := Dir(filepath.Join(dir, "wayback")), filepath.Join(dir, "policy")
		arm := func(run, text string) {
			t.Helper()
			if text != "" {
				if err := os.WriteFile(rules, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := d.Arm(Order{Run: run, Begun: at("b1", 1)}, "/proc/self/exe", rules+".none", rules); err != nil {
				t.Fatal(err)
			}
		}
		arm("one", c.before)
		arm("another", c.after)
		got, _ := os.ReadFile(d.Path(RulesFile))
		if o := order(t, d); o.Rules != c.want || string(got) != c.before {
			t.Errorf("%s: %q, and %q is kept", what, o.Rules, got)
		}
	}
}

func TestAnOrderThatCannotBeReadIsTold(t *testing.T) {
	d := armed(t)
	if err := os.WriteFile(d.Path(OrderFile), []byte("{\n \"run\": \"r"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Order(); !errors.Is(err, ErrUnreadable) {
		t.Errorf("read: %v", err)
	}
	// Who arms it anew keeps nothing in the place of what was kept.
	if err := d.Arm(Order{Run: "s", Begun: at("b1", 900)}, "/proc/self/exe", "", ""); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(d.Path(ProgramFile)); string(got) != "old program" || order(t, d).Run != "s" {
		t.Errorf("kept is %q", got[:min(len(got), 20)])
	}
}
