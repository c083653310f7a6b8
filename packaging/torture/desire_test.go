package torture_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A desire is the desired state of one round on a booted host, with what each
// managed path must be then. Every round changes nearly all of it.
type desire struct {
	n        int
	manifest strings.Builder
	// files are those of the group's directory.
	files map[string]string
	// paths say what is at each path that is managed, or was there before.
	paths snapshot
	// shapes are the resources, with all that is declared of them: where it is
	// another than in the round before, that is to be told once.
	shapes map[string]string
	// sees is what each unit must have seen when it was started last.
	sees map[string]string
}

const (
	svc         = 1234
	pkgName     = "tort-pkg"
	extraPkg    = "tort-extra"
	somaxconn   = 4000
	pkgEvery    = 4
	manyFiles   = 70
	treeFiles   = 70
	unitDir     = "/etc/systemd/system/"
	earlierText = "there before, and back when it leaves\n"
)

// newDesire returns the state of a round.
func newDesire(n int) *desire {
	d := &desire{n: n, files: map[string]string{}, paths: snapshot{}, shapes: map[string]string{}, sees: map[string]string{}}
	d.fewFiles()
	d.manyFiles()
	d.tree()
	d.links()
	d.units()
	d.packages()
	d.item("sysctl:net.core.somaxconn", "{sysctl: net.core.somaxconn, value: %d}", somaxconn+n)
	d.file("/etc/sysctl.d/60-trued-net.core.somaxconn.conf", 0o644, 0, fmt.Sprintf("# kept by trued\nnet.core.somaxconn = %d\n", somaxconn+n))
	return d
}

// odd and either choose between what alternates.
func (d *desire) odd() bool { return d.n%2 == 1 }

func either[T any](odd bool, a, b T) T {
	if odd {
		return a
	}
	return b
}

func (d *desire) item(address, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	d.shapes[address] = text
	fmt.Fprintf(&d.manifest, "- %s\n", text)
}

func (d *desire) file(path string, mode, uid int, content string) {
	d.paths[path] = tellFile(uint32(mode), uint32(uid), uint32(uid), []byte(content))
}

func (d *desire) directory(path string, mode, uid int) {
	d.paths[path] = fmt.Sprintf("directory %04o %d:%d", mode, uid, uid)
}

func (d *desire) fewFiles() {
	mode, user := either(d.odd(), 0o640, 0o600), either(d.odd(), "root", "svc")
	uid := either(d.odd(), 0, svc)
	d.directory("/etc/tort", 0o755, 0)
	for i := range 6 {
		path, content := fmt.Sprintf("/etc/tort/%d.conf", i), fmt.Sprintf("%d %s\n", d.n, strings.Repeat("x", 5000*i))
		d.item("file:"+path, "{file: %s, content: %q, owner: %s, group: %[3]s, mode: \"%04[4]o\", parents: true}", path, content, user, mode)
		d.file(path, mode, uid, content)
	}
	d.item("file:/etc/tort/mended", "{file: /etc/tort/mended, content: \"the same\\n\", owner: %s, group: %[1]s, mode: \"%04[2]o\"}", user, mode)
	d.file("/etc/tort/mended", mode, uid, "the same\n")
	deep := fmt.Sprintf("/etc/tort/deep-%d", d.n)
	d.item("file:"+deep+"/file", "{file: %s/file, content: \"deep\\n\", parents: true}", deep)
	d.directory(deep, 0o755, 0)
	d.file(deep+"/file", 0o644, 0, "deep\n")
	// It was there before: when it leaves, it gets its earlier content back.
	d.file("/etc/tort-before", 0o600, svc, earlierText)
	if d.odd() {
		content := fmt.Sprintf("managed %d\n", d.n)
		d.item("file:/etc/tort-before", "{file: /etc/tort-before, content: %q, mode: \"0644\", owner: root, group: root}", content)
		d.file("/etc/tort-before", 0o644, 0, content)
	}
}

// manyFiles are enough to share one sync.
func (d *desire) manyFiles() {
	for i := range manyFiles {
		path, content := fmt.Sprintf("/srv/many-%02d", i), fmt.Sprintf("%d many %d\n", d.n, i)
		d.item("file:"+path, "{file: %s, content: %q, mode: \"0640\"}", path, content)
		d.file(path, 0o640, 0, content)
	}
}

func (d *desire) tree() {
	mode := either(d.odd(), 0o644, 0o600)
	only := fmt.Sprintf("only-%d/file", d.n)
	d.item("directory:/srv/tree", "{directory: /srv/tree, source: files/tree, file_mode: \"%04o\"} # %d", mode, d.n)
	d.directory("/srv/tree", 0o755, 0)
	add := func(name, content string) {
		d.files["tree/"+name] = content
		dir, _, _ := strings.Cut(name, "/")
		d.directory("/srv/tree/"+dir, 0o755, 0)
		d.file("/srv/tree/"+name, mode, 0, content)
	}
	for i := range treeFiles {
		add(fmt.Sprintf("%02d/file", i), fmt.Sprintf("%d tree %d\n", d.n, i))
	}
	add(only, "a directory of its own\n")
	own := fmt.Sprintf("/srv/own-%d", d.n)
	d.item("directory:"+own, "{directory: %s, owner: svc, group: svc, mode: \"0750\"}", own)
	d.directory(own, 0o750, svc)
	d.item("directory:/srv/mended", "{directory: /srv/mended, mode: \"%04o\"}", either(d.odd(), 0o755, 0o700))
	d.directory("/srv/mended", either(d.odd(), 0o755, 0o700), 0)
}

func (d *desire) links() {
	d.item("link:/etc/tort/link", "{link: /etc/tort/link, target: \"%d\"}", d.n)
	d.paths["/etc/tort/link"] = fmt.Sprintf("link %d", d.n)
	if d.odd() {
		d.item("link:/etc/tort/leaves", "{link: /etc/tort/leaves, target: /etc/passwd}")
		d.paths["/etc/tort/leaves"] = "link /etc/passwd"
	}
}

// witness is started, and reloaded, by each unit, and notes what it sees then.
const witness = `#!/bin/sh
# witness UNIT VERB FILE...
unit=$1 verb=$2 seen=$ROUND
shift 2
for file; do read word rest <"$file" && seen="$seen $word"; done
read up rest </proc/uptime
read boot </proc/sys/kernel/random/boot_id
echo "$boot $up $verb $seen" >>"/var/lib/tort/$unit"
`

// unit declares a unit that keeps a log of what it saw, for which it reads
// files.
func (d *desire) unit(name, reads, more string) {
	text := fmt.Sprintf("[Service]\nExecStartPre=/usr/local/sbin/witness %[1]s start %[2]s\nExecStart=/bin/sleep infinity\n"+
		"ExecReload=/usr/local/sbin/witness %[1]s reload %[2]s\n[Install]\nWantedBy=multi-user.target\n", name, reads)
	file := unitDir + name + ".service"
	d.item("unit:"+name+".service", "{unit: %s.service, enabled: true, state: running, content: %q%s}", name, text, more)
	d.file(file, 0o644, 0, text)
	d.paths[unitDir+"multi-user.target.wants/"+name+".service"] = "link " + file
}

// units are one that is restarted for a file and its own drop-in, one that is
// reloaded, one that is restarted for a tree and a batch, and one that leaves.
func (d *desire) units() {
	round := fmt.Sprint(d.n)
	dropIn := fmt.Sprintf("[Service]\nEnvironment=ROUND=%d\n", d.n)
	d.unit("tort-restart", "/etc/tort/0.conf", fmt.Sprintf(", restart_on: [file:/etc/tort/0.conf], drop_ins: {10-round.conf: %q}", dropIn))
	d.directory(unitDir+"tort-restart.service.d", 0o755, 0)
	d.file(unitDir+"tort-restart.service.d/10-round.conf", 0o644, 0, dropIn)
	d.sees["tort-restart"] = round + " " + round

	d.unit("tort-reload", "/etc/tort/1.conf", ", reload_on: [file:/etc/tort/1.conf]")
	d.shapes["unit:tort-reload.service"] += round // what comes of a trigger is told, too
	d.sees["tort-reload"] = round

	d.unit("tort-tree", "/srv/tree/00/file /srv/many-00", ", restart_on: [\"directory:/srv/tree\", \"file:/srv/many-*\"]")
	d.shapes["unit:tort-tree.service"] += round
	d.sees["tort-tree"] = round + " " + round

	if d.odd() {
		d.unit("tort-leaves", "/etc/tort/2.conf", "")
		d.sees["tort-leaves"] = round
	}
}

// version is that of the package that comes in two.
func (d *desire) version() string { return either(d.n/pkgEvery%2 == 1, "1.0", "2.0") }

// extra reports whether the package that comes and goes is there.
func (d *desire) extra() bool { return d.n/pkgEvery%2 == 1 }

func (d *desire) packages() {
	d.item("package:"+pkgName, "{package: %s, version: \"= %s\", allow_downgrade: true}", pkgName, d.version())
	if d.extra() {
		d.item("package:"+extraPkg, "{package: %s}", extraPkg)
	}
}

// changed returns the resources that a run from one state to another changes.
func changed(old, now *desire) []string {
	all := map[string]bool{}
	for _, d := range []*desire{old, now} {
		for address := range d.shapes {
			if old.shapes[address] != now.shapes[address] {
				all[address] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}
