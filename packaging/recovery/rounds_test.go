package recovery_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/report"
)

// confirmWithin is that of the host of the rounds.
const confirmWithin = 15 * time.Second

// A round is what happens to the host: what is pushed, and when somebody kills
// what. All of it comes from the seed and the number of the round, so that one can
// be had again without those before it.
type round struct {
	n    int
	dice *rand.Rand
	// bad is pushed first, good last; one of them may be missing.
	bad   *breakage
	good  bool
	model model
	steps []step
}

// A step is something that happens so long after the first push.
type step struct {
	what  string
	after time.Duration
}

func (r *round) String() string {
	var words []string
	for _, s := range r.steps {
		words = append(words, fmt.Sprintf("%s after %.1fs", s.what, s.after.Seconds()))
	}
	if r.bad != nil {
		words = append(words, "where bad is: "+r.bad.name)
	}
	return fmt.Sprintf("round %d (TORTURE_SEED=%d TORTURE_FROM=%d): %s", r.n, seed(), r.n, strings.Join(words, ", "))
}

func full() bool { return os.Getenv("TORTURE") == "full" }

func seed() uint64 {
	n, err := strconv.ParseUint(os.Getenv("TORTURE_SEED"), 10, 64)
	if err != nil {
		return 163 // whose first rounds have some of everything
	}
	return n
}

// newRound rolls the dice.
func newRound(n int) *round {
	r := &round{n: n, dice: rand.New(rand.NewPCG(seed(), uint64(n)))}
	r.model = randomModel(r.dice, n)
	all := breakages()
	r.good = r.dice.IntN(2) == 0
	if !r.good || r.dice.IntN(2) == 0 {
		// In a shuffled order, so that a few rounds meet different ones.
		order := rand.New(rand.NewPCG(seed(), uint64(n/len(all)))).Perm(len(all))
		r.bad = &all[order[n%len(all)]]
		r.good = r.good && !r.bad.foreign
	}
	moment := func(most time.Duration) time.Duration { return time.Duration(r.dice.Int64N(int64(most))) }
	if r.bad != nil {
		r.steps = append(r.steps, step{"bad", 0})
	}
	if r.good {
		after := time.Duration(0)
		if r.bad != nil {
			after = moment(8 * time.Second)
		}
		r.steps = append(r.steps, step{"good", after})
	}
	most := 7 * time.Second
	if r.bad != nil && r.bad.deadly && r.dice.IntN(2) == 0 {
		most = 2*confirmWithin + 10*time.Second // also on the way back
	}
	for range r.dice.IntN(3) {
		what := []string{"SIGKILL", "SIGKILL", "power cut", "power cut", "reboot"}[r.dice.IntN(5)]
		r.steps = append(r.steps, step{what, moment(most)})
	}
	slices.SortStableFunc(r.steps, func(a, b step) int { return int(a.after - b.after) })
	return r
}

// A subject is the host of the rounds.
type subject struct {
	*hosttest.Host
	repo *hosttest.Repository
	// frame is all of the host that no model is about.
	frame picture
	// model is that of the newest good commit.
	model model
	good  string
	// slowest is the longest that it took from the last step until all was well.
	slowest time.Duration
	kills   int
}

// TestAHostEndsAtTheNewestGoodCommit mixes good and bad commits with kills at
// random moments. However it comes, the host ends up at the newest good commit.
func TestAHostEndsAtTheNewestGoodCommit(t *testing.T) {
	t.Parallel()
	first, count := 1, 4
	if full() {
		count = 100
	}
	if n, err := strconv.Atoi(os.Getenv("TORTURE_FROM")); err == nil && n > 0 {
		first, count = n, max(1, count-n+1)
	}
	s := settle(t, first)
	for n := first; n < first+count && !t.Failed(); n++ {
		s.play(t, newRound(n))
	}
	t.Logf("FIGURE rounds of good and bad commits: %d, with %d kills; the slowest was in order %.0f s after the last thing that happened", count, s.kills, s.slowest.Seconds())
}

// settle brings a host to the good commit before the first round.
func settle(t *testing.T, first int) *subject {
	t.Helper()
	h, git := arrive(t)
	s := &subject{Host: h, repo: git.Repository(t, "hosts")}
	s.Write(t, "/etc/systemd/system/trued.service.d/soon.conf", "[Service]\nRestartSec=1s\n")
	s.Run(t, shelves)
	s.model = model{n: 0, app: 1}
	for n := first - 1; n > 0; n-- {
		if r := newRound(n); r.good {
			s.model = r.model
			break
		}
	}
	s.good = s.push(t, "good", s.model.files())
	s.Write(t, "/etc/trued/.new", "sources:\n  - name: infra\n    url: "+s.repo.HTTP()+
		"\n    group: groups/web\ninterval: 1s\nresync: 1h\nconfirm_within: "+confirmWithin.String()+"\nreport:\n  - journal\n  - file: "+eventFile+"\n")
	s.Run(t, "mv /etc/trued/.new /etc/trued/trued.yaml; systemctl daemon-reload; systemctl start trued.service")
	s.inOrder(t, "at the start", "")
	s.Reboot(t) // what the first boot alone brings is no part of the frame
	s.inOrder(t, "at the start", "")
	s.frame = s.look(t)
	for key, want := range s.model.facts() {
		if is := s.frame[key]; is != want {
			t.Errorf("at the start %s is %q, want %q", key, is, want)
		}
		delete(s.frame, key)
	}
	if t.Failed() {
		t.FailNow()
	}
	return s
}

// push makes the tree of the repository what the files say.
func (s *subject) push(t *testing.T, message string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return s.repo.CommitTree(t, message, dir)
}

// play has a round happen, and judges what comes of it.
func (s *subject) play(t *testing.T, r *round) {
	t.Helper()
	t.Log(r)
	var bad string
	began := time.Now()
	for _, step := range r.steps {
		time.Sleep(time.Until(began.Add(step.after))) // the moment
		switch step.what {
		case "bad":
			bad = s.push(t, r.String(), r.bad.files(r.model))
		case "good":
			s.model = r.model
			s.good = s.push(t, r.String(), s.model.files())
		default:
			s.kill(t, step.what)
		}
	}
	last := time.Now()
	newest := bad
	if r.good {
		newest = ""
	}
	s.inOrder(t, r.String(), newest)
	took := time.Since(last)
	s.slowest = max(s.slowest, took)
	s.judge(t, r, bad)
	t.Logf("in order %.0f s after that", took.Seconds())
	if full() && took > confirmWithin+time.Minute {
		t.Errorf("that is more than confirm_within and a minute")
		s.tellAll(t)
	}
}

// kill takes the power, or the life of whatever is at work.
func (s *subject) kill(t *testing.T, what string) {
	t.Helper()
	switch what {
	case "SIGKILL":
		for _, unit := range []string{"trued.service", "trued-boot.service", "trued-rollback.service"} {
			s.kills += min(1, s.Signal(t, unit, syscall.SIGKILL))
		}
	case "power cut":
		s.kills++
		s.Kill(t)
		s.Start(t)
	case "reboot":
		s.kills++
		s.Reboot(t)
	}
}

// inOrder waits until the host is at the newest good commit and nothing goes on,
// for minutes.
func (s *subject) inOrder(t *testing.T, when, quarantined string) {
	t.Helper()
	const quiet = `! [ -e /var/lib/trued/wayback/armed ] && systemctl is-active -q trued.service &&
		! systemctl list-units --plain --no-legend 'trued-rollback.*' 'trued-packages.service' 'trued-boot.service' | grep -qE ' (active|activating|deactivating) +(running|start|stop|waiting)'`
	deadline := time.Now().Add(5 * time.Minute)
	for time.Now().Before(deadline) {
		var l look
		out, _ := s.Try(t, "trued status -o json 2>/dev/null")
		if json.Unmarshal([]byte(out), &l) == nil && len(l.Sources) == 1 {
			src := l.Sources[0]
			if l.Trial == nil && src.Applied == s.good && src.Confirmed == s.good && (quarantined == "" || src.Quarantine != nil && src.Quarantine.Commit == quarantined) {
				if _, code := s.Try(t, quiet); code == 0 {
					return
				}
			}
		}
		s.Run(t, "sleep 0.3")
	}
	t.Errorf("%s: the host is not at %s within minutes", when, s.good)
	s.tellAll(t)
	t.FailNow()
}

func (s *subject) tellAll(t *testing.T) {
	t.Helper()
	out, _ := s.Try(t, "trued status; trued wayback; cat /var/lib/trued/wayback/armed; systemctl list-units --all 'trued*' --no-pager; systemctl list-timers --all 'trued*' --no-pager; ls -laR /var/lib/trued/wayback; trued history; journalctl --no-pager -u 'trued*' -n 150 -o short-precise | cut -c1-400")
	t.Log(out)
}

// look takes a picture of all that a round can change.
func (s *subject) look(t *testing.T) picture {
	t.Helper()
	p := take(t, s.Host)
	for key := range p {
		// What systemd starts for itself, at its own times.
		if strings.HasPrefix(key, "active systemd-") || strings.HasPrefix(key, "active user") || strings.HasPrefix(key, "active trued-") || strings.HasPrefix(key, "active apt-") {
			delete(p, key)
		}
	}
	for line := range strings.Lines(s.Run(t, "sha256sum /usr/bin/trued /etc/trued/trued.yaml; apt-mark showauto | sed 's/^/auto:/'; find / -xdev -name '*.trued-*' -o -xdev -name '.trued-*' | sed 's/^/temporary:/'; find /var/lib/trued/wayback/kept 2>/dev/null | sed 's/^/kept:/' || true")) {
		p["other "+strings.TrimSpace(line)] = ""
	}
	return p
}

// judge compares the host with what it has to be, and what was told of it.
func (s *subject) judge(t *testing.T, r *round, bad string) {
	t.Helper()
	want := picture{}
	for key, value := range s.frame {
		want[key] = value
	}
	for key, value := range s.model.facts() {
		if value != "" {
			want[key] = value
		}
	}
	s.look(t).want(t, want)
	if out, code := s.Try(t, "trued plan"); code != 0 && code != 4 {
		t.Errorf("plan: exit code %d\n%s", code, out)
	}
	s.Run(t, "trued health")
	told := map[string]map[string]bool{}
	for _, e := range eventsOf(t, s.Host, report.CommitQuarantined) {
		if told[e.Attempted] == nil {
			told[e.Attempted] = map[string]bool{}
		}
		told[e.Attempted][e.ID] = true // a sink that could not note how far it was takes one again
	}
	for commit, ids := range told {
		if len(ids) > 1 || commit == s.good {
			t.Errorf("it was told %d times that %s is bad", len(ids), commit)
		}
	}
	if bad != "" && !r.good && len(told[bad]) != 1 {
		t.Errorf("it was told %d times that %s is bad", len(told[bad]), bad)
	}
	if t.Failed() {
		t.Log(r)
		s.tellAll(t)
	}
}
