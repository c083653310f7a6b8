package recovery_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
)

// A model is a good state of the repository, and so what the host is with it.
type model struct {
	n     int  // what is in most files
	app   int  // the version of a package, 1 or 2
	tool  bool // whether another is there
	extra int  // how many more files there are
}

func randomModel(dice *rand.Rand, n int) model {
	return model{n: n, app: 1 + dice.IntN(2), tool: dice.IntN(2) == 0, extra: dice.IntN(3)}
}

// wellness are the probes of the rounds.
const wellness = `health:
  web: {http: "http://127.0.0.1/", contains: welcome, within: 3s}
  ssh: {tcp: "127.0.0.1:22", within: 3s}
  nginx: {unit: nginx.service, within: 3s}
  svc: {unit: svc.service, within: 3s}
  room: {command: "sh -c 'dd if=/dev/zero of=/srv/small/probe bs=64k count=1 && rm /srv/small/probe'", within: 3s}
`

func (m model) page() string  { return fmt.Sprintf("welcome %d\n", m.n) }
func (m model) serve() string { return fmt.Sprintf("[Service]\nExecStart=sleep infinity %d\n", m.n) }

// files are the tree of the repository.
func (m model) files() map[string]string {
	var b strings.Builder
	b.WriteString(manifest)
	fmt.Fprintf(&b, `- package: app
  version: "= %d"
  allow_downgrade: true
- directory: /srv/rounds
- file: /srv/rounds/page
  content: "%d\n"
- unit: svc.service
  source: files/svc
  state: running
`, m.app, m.n)
	if m.tool {
		b.WriteString("- package: tool\n")
	}
	for i := range m.extra {
		fmt.Fprintf(&b, "- file: /srv/rounds/extra-%d\n  content: \"%d\\n\"\n", i, m.n)
	}
	return map[string]string{
		"groups/web/group.yaml":          wellness,
		"groups/web/10-web.yaml":         strings.Replace(b.String(), `content: "welcome\n"`, fmt.Sprintf(`content: "welcome %d\n"`, m.n), 1),
		"groups/web/files/site":          site,
		"groups/web/files/nftables.conf": firewall,
		"groups/web/files/svc":           m.serve(),
	}
}

// facts are what a picture has of it; what is empty is not there.
func (m model) facts() picture {
	p := picture{}
	content := func(name, text string, there bool) {
		if !there {
			p["path "+name], p["content "+name] = "", ""
			return
		}
		sum := sha256.Sum256([]byte(text))
		p["path "+name], p["content "+name] = "f 644 root:root", hex.EncodeToString(sum[:])
	}
	number := fmt.Sprintf("%d\n", m.n)
	content("/var/www/html/index.html", m.page(), true)
	content("/srv/rounds/page", number, true)
	content("/etc/systemd/system/svc.service", m.serve(), true)
	for i := range 2 {
		content(fmt.Sprintf("/srv/rounds/extra-%d", i), number, i < m.extra)
	}
	version := fmt.Sprint(m.app)
	content("/opt/app", version+"\n", true)
	content("/etc/app/plain.conf", "plain "+version+"\n", true)
	p["conffiles /etc/app/plain.conf"] = p["content /etc/app/plain.conf"]
	p["package app:all"] = "ii " + version
	content("/opt/tool", "1\n", m.tool)
	p["package tool:all"] = ""
	if m.tool {
		p["package tool:all"] = "ii 1"
	}
	return p
}

// shelves is shell that makes a repository of packages, and installs some that are
// not in it: what becomes of them can be taken back from what was kept alone. One
// of their configuration files is somebody's.
const shelves = `
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*; mkdir -p /srv/shelves /srv/theirs
echo 'deb [trusted=yes] copy:/srv/shelves ./' >/etc/apt/sources.list.d/shelves.list
build() { # where, name, version, what else the control file has
	d=$(mktemp -d); chmod 755 $d; mkdir -p $d/DEBIAN $d/opt $d/etc/$2
	printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: t <t@example.com>\nDescription: a test\n' $2 $3 >$d/DEBIAN/control
	if [ -n "${4:-}" ]; then printf "$4\n" >>$d/DEBIAN/control; fi
	echo $3 >$d/opt/$2
	if [ $2 != tool ]; then
		echo "plain $3" >$d/etc/$2/plain.conf; echo "edited $((${3%%.*} / 9))" >$d/etc/$2/edited.conf
		printf '/etc/%s/plain.conf\n/etc/%s/edited.conf\n' $2 $2 >$d/DEBIAN/conffiles
	else rmdir $d/etc/tool $d/etc; fi
	dpkg-deb --root-owner-group -Znone -b $d $1/$2_$3.deb >/dev/null
}
for v in 1 2; do build /srv/shelves app $v; done; build /srv/shelves app 9 'Depends: late'; build /srv/shelves late 1
build /srv/shelves tool 1; build /srv/shelves base 9; build /srv/shelves rider 9 'Depends: base (>= 9)'
build /srv/theirs base 1; build /srv/theirs rider 1 'Depends: base'
cd /srv/shelves; for f in *.deb; do dpkg-deb -f $f; echo "Filename: ./$f"; echo "Size: $(stat -c %s $f)"; echo "SHA256: $(sha256sum $f | cut -d' ' -f1)"; echo; done >Packages
apt-get -qq update; dpkg -i /srv/theirs/*.deb; apt-get -qq -y install app=1 >/dev/null; apt-mark -qq auto base
for p in app base rider; do echo mine >/etc/$p/edited.conf; done; chmod 600 /etc/base/edited.conf
rm -r /srv/theirs`

// A breakage makes a bad tree of a good one.
type breakage struct {
	name string
	// deadly is true for what the agent does not survive, foreign for what changes
	// packages that no good commit declares, or brings some along: going back undoes
	// that, and a newer commit that takes the place of the bad one does not.
	deadly, foreign bool
	files           func(m model) map[string]string
}

// with returns the files of a model with others over them.
func with(m model, other map[string]string) map[string]string {
	files := m.files()
	for name, content := range other {
		files[name] = content
	}
	return files
}

func breakages() []breakage {
	more := func(yaml string) func(model) map[string]string {
		return func(m model) map[string]string { return with(m, map[string]string{"groups/web/90-bad.yaml": yaml}) }
	}
	// away is what makes any of them bad: the site is at another port.
	away := map[string]string{"groups/web/files/site": strings.Replace(site, "80", "81", 1)}
	const junk = "- file: /etc/bad/deep/file\n  content: bad\n  parents: true\n- file: /etc/issue\n  content: bad\n"
	const moves = "- package: base\n  version: '>= 9'\n  conffiles: replace\n- package: rider\n  version: '>= 9'\n"
	agent := func(program string) string {
		return junk + moves + "- file: /usr/bin/trued\n  mode: \"0755\"\n  content: |\n    " + strings.ReplaceAll(strings.TrimSuffix(program, "\n"), "\n", "\n    ") + "\n"
	}
	return []breakage{
		{name: "nginx listens at another port", files: func(m model) map[string]string { return with(m, away) }},
		{name: "a unit dies", files: func(m model) map[string]string {
			return with(m, map[string]string{"groups/web/files/svc": "[Service]\nExecStart=false\n", "groups/web/90-bad.yaml": junk})
		}},
		{name: "the firewall drops all", files: func(m model) map[string]string {
			return with(m, map[string]string{"groups/web/files/nftables.conf": closed})
		}},
		{name: "packages move", foreign: true, files: func(m model) map[string]string {
			files := with(m, away)
			files["groups/web/90-bad.yaml"] = moves + junk
			return files
		}},
		{name: "a managed package moves", foreign: true, files: func(m model) map[string]string {
			files := with(m, away)
			files["groups/web/10-web.yaml"] = strings.Replace(files["groups/web/10-web.yaml"], fmt.Sprintf(`"= %d"`, m.app), `"= 9"`, 1)
			return files
		}},
		{name: "packages that others need are purged", foreign: true, files: func(m model) map[string]string {
			files := with(m, away)
			files["groups/web/90-bad.yaml"] = "- package: [base, rider]\n  state: purged\n" + junk
			return files
		}},
		{name: "a file fills the disk", files: func(m model) map[string]string {
			return with(m, map[string]string{
				"groups/web/90-bad.yaml": junk + "- file: /srv/small/fill\n  source: files/fill\n",
				"groups/web/files/fill":  strings.Repeat("x", 8<<20-32<<10),
			})
		}},
		{name: "sshd listens at another port", files: func(m model) map[string]string {
			files := m.files()
			files["groups/web/10-web.yaml"] = strings.Replace(files["groups/web/10-web.yaml"], "PasswordAuthentication no", "Port 2222", 1)
			return files
		}},
		{name: "the agent exits", deadly: true, foreign: true, files: more(agent("#!/bin/sh\nexit 1\n"))},
		{name: "the agent hangs", deadly: true, foreign: true, files: more(agent("#!/bin/sh\n[ -z \"$NOTIFY_SOCKET\" ] || exec flock /var/lib/trued/lock sleep infinity\nexit 1\n"))},
		{name: "the agent does not understand its configuration", deadly: true, foreign: true, files: more(junk + moves + "- file: /etc/trued/trued.yaml\n  content: \"nonsense: true\\n\"\n")},
	}
}
