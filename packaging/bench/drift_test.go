package bench_test

import (
	"fmt"
	"slices"
	"time"
)

// drifted is what the gauge says of files that were changed by hand.
type drifted struct {
	Seen []time.Duration `json:"seen"`
	Back []time.Duration `json:"back"`
}

// drift measures how soon the daemon puts back what is changed, and what it costs
// to watch for that. The others find drift when they run: Puppet each half hour and
// CFEngine each five minutes, as they come.
func (l *lab) drift(t *table, p plan) {
	l.Helper()
	n := p.sizes[min(1, len(p.sizes)-1)]
	l.serve(newWorkload(l, n, true).repo)
	work := fmt.Sprintf("a change by hand of one of %s files: ", thousands(n))
	rivals := row{each: cell{note: "150 s, 1 run each 5 min"}, puppet: cell{note: "900 s, 1 run each 30 min"}}
	without := l.resting("watch: false")
	with := l.resting("watch: true")

	l.host.Run(l, "systemctl start trued")
	l.host.Await(l, "trued status | grep -q '^In order'")
	for _, how := range []struct {
		name, pause, load string
		count             int
	}{
		{"until it is back", "11s", "idle", 3 * p.many}, {"until it is back, soon after another", "200ms", "idle", 30 * p.many},
		{"until it is back, on a busy host", "11s", "busy", 3 * p.many},
	} {
		var d drifted
		l.gauge("", &d, "drift", "/srv/trued", fmt.Sprint(how.count), how.pause, how.load)
		l.Logf("%s %s: %+v", time.Now().Format("15:04:05"), how.name, d)
		r := rivals
		r.work, r.trued = work+how.name, medianOf(d.Back)
		r.targets = []target{{"as asked", cell{value: 0.3, unit: seconds}}}
		t.add(r)
		t.add(row{work: work + how.name + ", 99 of 100", trued: most(d.Back), targets: []target{{"as asked", cell{value: 2, unit: seconds}}}})
		t.add(row{work: work + how.name + ", until it is seen", trued: medianOf(d.Seen), targets: []target{{"as asked", cell{value: 0.1, unit: seconds}}}})
	}
	l.host.Run(l, "systemctl stop trued")
	added := cell{value: kib(with.State.Resident).value - kib(without.State.Resident).value, unit: megabytes}
	t.add(row{work: fmt.Sprintf("to watch %s files: memory added", thousands(n)), trued: added, targets: []target{{"as asked", cell{value: 5, unit: megabytes}}}})
	hour := func(idle turn) cell {
		return cell{value: idle.Idle.Seconds() * float64(time.Hour) / float64(idle.IdleFor), unit: seconds}
	}
	t.add(row{work: fmt.Sprintf("to watch %s files: an hour without polls and runs", thousands(n)), trued: hour(with), floor: hour(without), targets: []target{{"as asked", cell{value: 1, unit: seconds}}}})
}

// resting is a daemon that has come to rest, with a line of configuration.
func (l *lab) resting(line string) turn {
	l.Helper()
	l.host.Run(l, "sed -i '/^watch:/d' /etc/trued/trued.yaml; echo '"+line+"' >>/etc/trued/trued.yaml; trued apply")
	return l.daemon(3)
}

// most is the figure that 99 of 100 do not exceed.
func most(all []time.Duration) cell {
	sorted := slices.Sorted(slices.Values(all))
	return cell{value: sorted[(len(sorted)*99+99)/100-1].Seconds(), unit: seconds}
}
