package bench_test

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// start measures what each takes to start at all, and how large trued is.
func (l *lab) start(t *table) {
	l.Helper()
	s := l.measure(9,
		command{Name: "trued", Argv: []string{"trued", "version"}},
		command{Name: "cfengine", Argv: []string{"cf-agent", "--version"}},
		command{Name: "puppet", Argv: []string{"puppet", "--version"}},
		command{Name: "ansible", Argv: []string{"ansible-playbook", "--version"}, Env: ansibleEnv},
		command{Name: "floor", Argv: []string{"gauge", "floor", "nothing", "/", "0"}},
	)
	t.add(row{
		work: "start (`version`)", trued: s.cpu("trued"), each: s.cpu("cfengine"), puppet: s.cpu("puppet"), ansible: s.cpu("ansible"), floor: s.cpu("floor"),
		targets: []target{{"as asked", cell{value: 0.010, unit: seconds}}},
	})
	info, err := os.Stat("../../bin/trued")
	if err != nil {
		l.Fatal(err)
	}
	t.add(row{work: "size of the program", trued: cell{value: float64(info.Size()) / 1e6, unit: megabytes}, targets: []target{{"as asked", cell{value: 25, unit: megabytes}}}})
}

// oneTree measures a tree that is one resource.
func (l *lab) oneTree(t *table, p plan) {
	l.Helper()
	n := p.tree
	w := newWorkload(l, n, false)
	repo := l.TempDir()
	write(l, repo+"/groups/web/web.yaml", "- directory: /srv/trued\n  source: files/tree\n")
	for _, f := range w.files() {
		write(l, repo+"/groups/web/files/tree/"+f.path(), f.text("example"))
	}
	l.serve(repo)
	l.give(w.dir)
	cold := l.measure(p.cold[n],
		command{Name: "trued", Before: forget + aside("/srv/trued"), Argv: truedNow},
		command{Name: "tree", Before: aside("/srv/cfengine-tree"), Argv: cfEngine("tree.cf")},
		command{Name: "floor", Before: aside("/srv/floor"), Argv: []string{"gauge", "floor", "write", "/srv/floor", fmt.Sprint(n)}},
	)
	l.holds("/srv/trued", "/srv/cfengine-tree")
	inOrder := l.measure(p.inOrder[n],
		command{Name: "trued", Argv: truedNow},
		command{Name: "tree", Argv: cfEngine("tree.cf")},
		command{Name: "floor", Argv: []string{"gauge", "floor", "read", "/srv/trued", fmt.Sprint(n)}},
		command{Name: "lstat", Argv: []string{"gauge", "floor", "lstat", "/srv/trued", fmt.Sprint(n)}},
	)
	work := fmt.Sprintf("a tree of %s files as one resource: ", thousands(n))
	t.add(row{work: work + "cold", trued: cold.cpu("trued"), tree: cold.cpu("tree"), floor: cold.cpu("floor")})
	t.add(row{work: work + "in order, `apply` without a poll", trued: inOrder.cpu("trued"), tree: inOrder.cpu("tree"), floor: inOrder.cpu("floor")})
	t.add(row{work: work + "peak memory, in order", trued: inOrder.peak("trued"), tree: inOrder.peak("tree")})
	t.add(row{work: work + "in order, a run of the daemon", trued: medianOf(l.daemon(p.inOrder[n]).Runs), floor: inOrder.cpu("lstat")})
}

// packages measures fifty that are there.
func (l *lab) packages(t *table, p plan) {
	l.Helper()
	names := strings.Fields(l.host.Run(l, `dpkg-query -W -f '${Package}\n' | sort -u | sed -n 1,50p`))
	repo, dir := l.TempDir(), l.TempDir()
	list := strings.Join(names, ", ")
	write(l, repo+"/groups/web/web.yaml", "- package: ["+list+"]\n- file: /srv/trued\n  content: there\n")
	write(l, dir+"/many.cf", cfHead+`bundle agent main
{
  vars: "names" slist => { "`+strings.Join(names, `", "`)+`" };
  packages: "$(names)" policy => "present", package_module => apt_get;
}
body package_module apt_get { query_installed_ifelapsed => "0"; query_updates_ifelapsed => "1440"; interpreter => "/usr/bin/python3"; }
`)
	write(l, dir+"/many.pp", "package { ['"+strings.Join(names, "', '")+"']: ensure => installed }\n")
	write(l, dir+"/many.yml", "- hosts: all\n  gather_facts: false\n  tasks:\n    - apt: {state: present, name: ["+list+"]}\n")
	l.many(t, p, 3, "50 packages present", repo, dir, append([]string{"dpkg-query", "-W"}, names...), func(floor cell) target {
		return of(1, floor, "one `dpkg-query -W`")
	})
}

// units measures fifty that are enabled and run.
func (l *lab) units(t *table, p plan) {
	l.Helper()
	var names, cf []string
	for i := range 50 {
		name := fmt.Sprintf("bench-%02d.service", i)
		names = append(names, name)
		cf = append(cf, strings.TrimSuffix(name, ".service"))
		l.host.Write(l, "/etc/systemd/system/"+name, "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n")
	}
	l.host.Run(l, "systemctl daemon-reload; systemctl enable -q --now "+strings.Join(names, " "))
	repo, dir := l.TempDir(), l.TempDir()
	list := strings.Join(names, ", ")
	write(l, repo+"/groups/web/web.yaml", "- unit: ["+list+"]\n  enabled: true\n  state: running\n- file: /srv/trued\n  content: there\n")
	write(l, dir+"/many.cf", `body common control { bundlesequence => { "main" }; inputs => { "/usr/share/cfengine3/masterfiles/lib/stdlib.cf" }; }
bundle agent main
{
  vars: "names" slist => { "`+strings.Join(cf, `", "`)+`" };
  services: "$(names)" service_policy => "start";
}
`)
	write(l, dir+"/many.pp", "service { ['"+strings.Join(names, "', '")+"']: ensure => running, enable => true }\n")
	write(l, dir+"/many.yml", "- hosts: all\n  gather_facts: false\n  tasks:\n    - systemd: {name: \"{{ item }}\", state: started, enabled: true}\n      loop: ["+list+"]\n")
	l.many(t, p, 1, "50 units in state", repo, dir, append([]string{"systemctl", "show", "-p", "ActiveState,UnitFileState"}, names...), func(cell) target {
		return target{"as asked", cell{value: 0.030, unit: seconds}}
	})
}

// many measures fifty of something that are in order, the rivals repeat times.
func (l *lab) many(t *table, p plan, repeat int, work, repo, dir string, floor []string, aim func(cell) target) {
	l.Helper()
	l.serve(repo)
	l.give(dir)
	l.host.Run(l, "trued apply --boot; cf-promises -f /srv/work/many.cf")
	s := l.measure(p.many,
		command{Name: "trued", Argv: truedNow},
		command{Name: "polls", Argv: truedPolls},
		command{Name: "floor", Argv: floor},
	)
	slow := l.measure(repeat,
		command{Name: "cfengine", Argv: cfEngine("many.cf")},
		command{Name: "puppet", Argv: puppetApply("many.pp")},
		command{Name: "ansible", Argv: ansiblePlay("many.yml"), Env: ansibleEnv},
	)
	aims := []target{aim(s.cpu("floor"))}
	t.add(row{
		work: work + ": `apply`", trued: s.cpu("polls"), each: slow.cpu("cfengine"), puppet: slow.cpu("puppet"), ansible: slow.cpu("ansible"),
		floor: s.cpu("floor"), targets: aims,
	})
	t.add(row{work: work + ": `apply` without a poll", trued: s.cpu("trued"), floor: s.cpu("floor"), targets: aims})
	t.add(row{
		work: work + ": what systemd and D-Bus take for it", trued: s.asked("trued"), each: slow.asked("cfengine"), puppet: slow.asked("puppet"),
		ansible: slow.asked("ansible"), floor: s.asked("floor"),
	})
	d := l.daemon(p.many)
	t.add(row{work: work + ": a run of the daemon", trued: medianOf(d.Runs), floor: s.cpu("floor"), targets: aims})
}

// idle measures a daemon that has little to do.
func (l *lab) idle(t *table) {
	l.Helper()
	l.serve(newWorkload(l, directories, false).repo)
	d := l.daemon(3)
	t.add(row{work: "50 files: daemon's memory", trued: kib(d.State.Resident), targets: []target{{"as asked", cell{value: 16, unit: megabytes}}}})
	t.add(row{work: "50 files: an hour of the daemon when nothing happens", trued: d.hour(), targets: []target{{"as asked", cell{value: 1, unit: seconds}}}})
}

// manyRuns measures whether a daemon grows.
func (l *lab) manyRuns(t *table, p plan) {
	l.Helper()
	l.serve(newWorkload(l, 100, false).repo)
	l.host.Run(l, "systemctl start trued")
	l.host.Await(l, "trued status")
	var states []state
	l.gauge("", &states, "many", fmt.Sprint(p.runs))
	l.host.Run(l, "systemctl stop trued")
	l.Logf("%s many runs: %+v", time.Now().Format("15:04:05"), states)
	first, last := states[0], states[len(states)-1]
	work, then := fmt.Sprintf("after %s runs over 100 files: ", thousands(p.runs)), "as after "+thousands(p.runs/10)
	number := func(n int64) cell { return cell{value: float64(n), unit: count} }
	t.add(row{work: work + "daemon's memory", trued: kib(last.Resident), targets: []target{of(1.1, kib(first.Resident), then+", 1/10 to spare")}})
	t.add(row{work: work + "open files", trued: number(int64(last.Files)), targets: []target{{then, number(int64(first.Files))}}})
	// The runtime starts one now and then, and ends none.
	t.add(row{work: work + "threads", trued: number(last.Threads), targets: []target{{then + ", 2 to spare", number(first.Threads + 2)}}})
}

// grown says how the figures grow with the number of files.
func grown(t *table, p plan) {
	for i := 1; i < len(p.sizes); i++ {
		small, large := workload{n: p.sizes[i-1], mixed: true}, workload{n: p.sizes[i], mixed: true}
		for _, what := range []string{"in order, `apply`", "in order, a run of the daemon", "peak memory, in order", "daemon's memory after runs"} {
			a, b := t.row(small.name()+": "+what).trued, t.row(large.name()+": "+what).trued
			if a.value == 0 || b.value == 0 {
				continue
			}
			t.add(row{
				work:    fmt.Sprintf("%s files beside %s: %s", thousands(large.n), thousands(small.n), what),
				trued:   cell{value: b.value / a.value, unit: times},
				targets: []target{{"no more than the files, 1/10 to spare", cell{value: 1.1 * float64(large.n) / float64(small.n), unit: times}}},
			})
		}
	}
}
