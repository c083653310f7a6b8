package bench_test

import (
	"fmt"
	"time"
)

// config is the agent's own file: nothing happens in the daemon by itself.
const config = `sources:
  - name: infra
    url: %s
    group: groups/web
interval: 1h
resync: 24h
`

// An agent that has been told everything and done nothing: the commit is
// fetched, the state is empty.
const forget = "find /var/lib/trued -mindepth 1 -maxdepth 1 ! -name sources -exec rm -rf {} +; "

// serve makes a directory the repository, which trued fetches and does not yet
// apply.
func (l *lab) serve(repo string) {
	l.Helper()
	l.repo.CommitTree(l, "Measure", repo)
	l.host.Write(l, "/etc/trued/trued.yaml", fmt.Sprintf(config, l.repo.HTTP()))
	l.host.Run(l, "systemctl stop trued; rm -rf /var/lib/trued; "+aside("/srv/trued"))
	if out, code := l.host.Try(l, "trued plan"); code != 2 {
		l.Fatalf("trued plan: exit code %d\n%s", code, out)
	}
}

// give makes a directory what the others read.
func (l *lab) give(dir string) {
	l.Helper()
	l.host.Run(l, aside("/srv/work")+aside("/srv/cfengine")+aside("/srv/puppet")+aside("/srv/ansible")+
		aside("/srv/cfengine-tree")+aside("/srv/puppet-tree")+aside("/srv/ansible-tree")+aside("/srv/floor"))
	l.host.Copy(l, dir, "/srv/work")
	l.host.Run(l, "cd /srv/work; if [ -e plain ]; then tar -C plain -cf plain.tar .; cf-promises -f ./each.cf; cf-promises -f ./tree.cf; fi")
}

// holds fails when a tree is not what all were told to make.
func (l *lab) holds(dirs ...string) {
	l.Helper()
	const sum = "find . -type f | sort | xargs cat | sha256sum"
	want := l.host.Run(l, "cd /srv/work/plain; "+sum)
	for _, dir := range dirs {
		if got := l.host.Run(l, "cd "+dir+"; "+sum); got != want {
			l.Fatalf("%s is not the tree that was asked for: %s", dir, l.host.Run(l, "find "+dir+" | head; find "+dir+" | wc -l"))
		}
	}
}

// turn is what the gauge says of a daemon.
type turn struct {
	Runs    []time.Duration `json:"runs"`
	Syncs   []time.Duration `json:"syncs"`
	Idle    time.Duration   `json:"idle"`
	IdleFor time.Duration   `json:"idle_for"`
	State   state           `json:"state"`
}

type state struct {
	Resident  int64 `json:"resident"`
	Anonymous int64 `json:"anonymous"`
	Peak      int64 `json:"peak"`
	Threads   int64 `json:"threads"`
	Files     int   `json:"files"`
}

func kib(n int64) cell { return cell{value: float64(n) / 1024, unit: megabytes} }

// daemon starts trued.service, has it run, and stops it.
func (l *lab) daemon(runs int) turn {
	l.Helper()
	l.host.Run(l, "systemctl start trued")
	l.host.Await(l, "trued status")
	var t turn
	l.gauge("", &t, "daemon", "trued.service", fmt.Sprint(runs))
	l.host.Run(l, "systemctl stop trued")
	l.Logf("%s daemon: %+v", time.Now().Format("15:04:05"), t)
	return t
}

// hour is what the default configuration makes of an hour in which nothing
// happens: 60 looks at the repository, 4 checks of the host, and the rest.
func (t turn) hour() cell {
	run, sync := medianOf(t.Runs).value, medianOf(t.Syncs).value
	idle := t.Idle.Seconds() * float64(time.Hour) / float64(t.IdleFor)
	return cell{value: 60*max(0, sync-run) + 4*run + idle, unit: seconds}
}

// patience is the most CPU time that one start of a rival may be expected to take.
const patience = 100 * time.Second

// slow measures a rival that may take too long for this size.
func (l *lab) slow(name string, files, repeat int, c command) (s samples, why cell) {
	l.Helper()
	if last, ok := l.took[name]; ok {
		if due := last.cpu * time.Duration(files) / time.Duration(last.files); due > patience {
			return nil, cell{note: fmt.Sprintf("not run: %.0f s for %s", last.cpu.Seconds(), thousands(last.files))}
		}
	}
	s = l.measure(repeat, c)
	l.took[name] = seen{files, s[c.Name][0].CPU}
	return s, cell{}
}

// files measures one workload of files, cold and in order.
func (l *lab) files(t *table, p plan, n int, mixed bool) {
	l.Helper()
	w := newWorkload(l, n, mixed)
	l.serve(w.repo)
	l.give(w.dir)
	// One promise a file makes no directories.
	made := "for d in $(seq -w 0 49); do mkdir -p /srv/cfengine/d$d; done; "
	cold := l.measure(p.cold[n],
		command{Name: "trued", Before: forget + aside("/srv/trued"), Argv: truedNow},
		command{Name: "tree", Before: aside("/srv/cfengine-tree"), Argv: cfEngine("tree.cf")},
		command{Name: "each", Before: aside("/srv/cfengine") + made, Argv: cfEngine("each.cf")},
		command{Name: "floor", Before: aside("/srv/floor"), Argv: []string{"gauge", "floor", "write", "/srv/floor", fmt.Sprint(n)}},
	)
	l.holds("/srv/trued", "/srv/cfengine-tree", "/srv/cfengine")
	inOrder := l.measure(p.inOrder[n],
		command{Name: "trued", Argv: truedNow},
		command{Name: "polls", Argv: truedPolls},
		command{Name: "tree", Argv: cfEngine("tree.cf")},
		command{Name: "times", Argv: cfEngine("times.cf")},
		command{Name: "each", Argv: cfEngine("each.cf")},
		command{Name: "lstat", Argv: []string{"gauge", "floor", "lstat", "/srv/trued", fmt.Sprint(n)}},
		command{Name: "read", Argv: []string{"gauge", "floor", "read", "/srv/trued", fmt.Sprint(n)}},
	)
	first := row{trued: cold.cpu("trued"), tree: cold.cpu("tree"), each: cold.cpu("each"), floor: cold.cpu("floor")}
	again := row{trued: inOrder.cpu("polls"), tree: inOrder.cpu("tree"), each: inOrder.cpu("each"), floor: inOrder.cpu("read")}
	peak := row{trued: inOrder.peak("polls"), tree: inOrder.peak("tree"), each: inOrder.peak("each")}
	l.slowFiles(n, mixed, &first, &again, &peak)

	if n == 1000 {
		first.targets = []target{of(1, first.tree, "CFEngine's tree"), of(1.5, first.floor, "1.5 of the floor")}
	}
	alone := row{trued: inOrder.cpu("trued"), tree: again.tree, each: again.each, floor: again.floor}
	if n <= 5000 {
		again.targets = []target{of(0.1, again.tree, "1/10 of CFEngine's tree")}
		alone.targets = again.targets
	}
	d := l.daemon(p.inOrder[n])
	run := row{trued: medianOf(d.Runs), tree: again.tree, each: again.each, floor: inOrder.cpu("lstat")}
	bare := inOrder.alone("lstat")
	run.targets = []target{of(2, run.floor, "2 of the floor"), of(2, bare, "2 of the floor without its start")}
	if n > 5000 {
		run.targets = nil
	}
	resident := row{trued: kib(d.State.Resident)}
	if n == 5000 {
		resident.targets = []target{{"as asked", cell{value: 25, unit: megabytes}}}
	}
	for _, named := range []struct {
		what string
		row  row
	}{
		{"cold", first}, {"in order, `apply`", again}, {"in order, `apply` without a poll", alone}, {"in order, a run of the daemon", run},
		{"peak memory, in order", peak}, {"daemon's memory after runs", resident},
	} {
		named.row.work = w.name() + ": " + named.what
		t.add(named.row)
	}
	t.add(row{work: w.name() + ": peak memory, cold", trued: cold.peak("trued"), tree: cold.peak("tree"), each: cold.peak("each")})
	t.add(row{work: w.name() + ": in order, where CFEngine compares times and sees no drift", trued: alone.trued, tree: inOrder.cpu("times")})
	t.add(row{work: w.name() + ": what a poll adds to a run of the daemon", trued: cell{value: medianOf(d.Syncs).value - medianOf(d.Runs).value, unit: seconds}})
	if n == 1000 && mixed {
		t.add(row{work: w.name() + ": an hour of the daemon when nothing happens", trued: d.hour(), targets: []target{{"as asked", cell{value: 1, unit: seconds}}}})
	}
}

// slowFiles adds Puppet, by resource where there are templates and by tree where
// there are none, and Ansible by tree.
func (l *lab) slowFiles(n int, mixed bool, first, again, peak *row) {
	l.Helper()
	if mixed {
		l.slowly("puppet site.pp", n, 1, "/srv/puppet", command{Argv: puppetApply("site.pp")}, &first.puppet, &again.puppet, &peak.puppet)
		return
	}
	repeat := 1
	if n == 1000 {
		repeat = 3
	}
	l.slowly("puppet tree.pp", n, repeat, "/srv/puppet-tree", command{Argv: puppetApply("tree.pp")}, &first.puppet, &again.puppet, &peak.puppet)
	l.slowly("ansible tree.yml", n, repeat, "/srv/ansible-tree", command{Argv: ansiblePlay("tree.yml"), Env: ansibleEnv}, &first.ansible, &again.ansible, &peak.ansible)
}

// ansibleLoop adds Ansible with each file by itself.
func (l *lab) ansibleLoop(t *table, p plan) {
	l.Helper()
	for _, n := range p.sizes {
		w := newWorkload(l, n, true)
		l.give(w.dir)
		l.slowly("ansible each.yml", n, 1, "/srv/ansible", command{Before: "mkdir /srv/ansible", Argv: ansiblePlay("each.yml"), Env: ansibleEnv},
			&t.row(w.name()+": cold").ansible, &t.row(w.name()+": in order, `apply`").ansible, &t.row(w.name()+": peak memory, in order").ansible)
	}
}

// slowly measures a slow rival cold and in order, unless that takes too long.
func (l *lab) slowly(name string, n, repeat int, dir string, c command, first, again, peak *cell) {
	l.Helper()
	c.Name, c.Before = "it", aside(dir)+c.Before
	cold, why := l.slow(name, n, 1, c)
	if why.note != "" {
		*first, *again, *peak = why, why, why
		return
	}
	l.holds(dir)
	c.Before = ""
	inOrder := l.measure(repeat, c)
	*first, *again, *peak = cold.cpu("it"), inOrder.cpu("it"), inOrder.peak("it")
}
