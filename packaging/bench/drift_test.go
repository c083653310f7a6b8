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
	l.watching(t, p, n)

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
}

// watching measures what it costs to watch when nothing happens.
func (l *lab) watching(t *table, p plan, n int) {
	l.Helper()
	const turns = 3
	var without, with []float64
	var last turn
	for range turns {
		l.set("watch", "false")
		without = append(without, kib(l.daemon(3).State.Resident).value)
		l.set("watch", "true")
		last = l.daemon(3)
		with = append(with, kib(last.State.Resident).value)
	}
	work := fmt.Sprintf("to watch %s files: ", thousands(n))
	t.add(row{work: work + "memory added", trued: cell{value: median(with) - median(without), unit: megabytes}, targets: []target{{"as asked", cell{value: 5, unit: megabytes}}}})
	t.add(row{work: work + "daemon's memory", trued: cell{value: median(with), unit: megabytes}, floor: cell{value: median(without), unit: megabytes}})

	hour := func(interval, watch string) cell {
		l.set("interval", interval)
		l.set("watch", watch)
		l.host.Run(l, "systemctl start trued")
		l.host.Await(l, "trued status | grep -q '^In order'; sleep 15")
		var rest turn
		l.gauge("", &rest, "idle", "trued.service", p.rest.String())
		l.host.Run(l, "systemctl stop trued")
		l.Logf("%s interval %s, watch %s: %+v", time.Now().Format("15:04:05"), interval, watch, rest)
		return cell{value: rest.Idle.Seconds() * float64(time.Hour) / float64(rest.IdleFor), unit: seconds}
	}
	quiet := hour("1h", "true")
	t.add(row{work: work + "an hour without polls and runs", trued: quiet, floor: hour("1h", "false"), targets: []target{{"as asked", cell{value: 1, unit: seconds}}}})
	checked := cell{value: quiet.value + 4*medianOf(last.Runs).value, unit: seconds}
	t.add(row{work: work + "an hour with 4 full runs, without polls", trued: checked, targets: []target{{"as asked", cell{value: 1, unit: seconds}}}})
	polled := cell{value: hour("1m", "true").value + 4*medianOf(last.Runs).value, unit: seconds}
	t.add(row{work: work + "an hour with 4 full runs and 60 polls", trued: polled})
	l.set("interval", "1h")
}

// set has the daemon start with a line of configuration.
func (l *lab) set(key, value string) {
	l.Helper()
	l.host.Run(l, fmt.Sprintf("sed -i '/^%[1]s:/d' /etc/trued/trued.yaml; echo '%[1]s: %[2]s' >>/etc/trued/trued.yaml; trued apply", key, value))
}

// most is the figure that 99 of 100 do not exceed.
func most(all []time.Duration) cell {
	sorted := slices.Sorted(slices.Values(all))
	return cell{value: sorted[(len(sorted)*99+99)/100-1].Seconds(), unit: seconds}
}
