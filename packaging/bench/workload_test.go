package bench_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// directories is how many the files are in, as the gauge knows too.
const directories = 50

// A workload is the same desired state said to each agent: files of 1 KiB.
type workload struct {
	n     int
	mixed bool // a tenth of them are templates
	// dir has what the host needs, repo what Git serves.
	dir, repo string
}

// name is what the table calls it.
func (w workload) name() string {
	how := "plain"
	if w.mixed {
		how = "a tenth templates"
	}
	return fmt.Sprintf("%s files, %s", thousands(w.n), how)
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

// A file is one of them, by directory and number.
type file struct{ d, i int }

func (f file) path() string { return fmt.Sprintf("d%02d/f%03d", f.d, f.i) }

// text is its content, which a template makes of site.
func (f file) text(site string) string {
	name := fmt.Sprintf("%s %s ", site, f.path())
	return name + strings.Repeat("x", 1024-len("example")-len(name)+len(site)-1) + "\n"
}

func (w workload) files() []file {
	var all []file
	for d := range directories {
		for i := range w.n / directories {
			all = append(all, file{d, i})
		}
	}
	return all
}

func (w workload) template(f file) bool { return w.mixed && f.i%10 == 0 }

func newWorkload(b testing.TB, n int, mixed bool) workload {
	b.Helper()
	w := workload{n: n, mixed: mixed, dir: b.TempDir(), repo: b.TempDir()}
	for _, f := range w.files() {
		write(b, w.dir+"/plain/"+f.path(), f.text("example"))
		if w.template(f) {
			write(b, w.dir+"/mustache/"+f.path(), f.text("{{{vars.main.site}}}"))
			write(b, w.dir+"/erb/"+f.path(), f.text("<%= @site %>"))
			write(b, w.dir+"/jinja/"+f.path(), f.text("{{ site }}"))
		}
	}
	w.forTrued(b)
	write(b, w.dir+"/tree.cf", cfTree("digest"))
	write(b, w.dir+"/times.cf", cfTree("mtime"))
	write(b, w.dir+"/each.cf", w.cfEach())
	write(b, w.dir+"/site.pp", w.puppet())
	write(b, w.dir+"/tree.pp", puppetTree)
	write(b, w.dir+"/each.yml", w.ansible())
	write(b, w.dir+"/tree.yml", ansibleTree)
	return w
}

func write(b testing.TB, path, content string) {
	b.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		b.Fatal(err)
	}
}

// forTrued writes a repository of two groups, of which one includes the other.
func (w workload) forTrued(b testing.TB) {
	b.Helper()
	write(b, w.repo+"/groups/base/group.yaml", "vars: {site: none}\n")
	write(b, w.repo+"/groups/web/group.yaml", "include: [groups/base]\nvars: {site: example}\n")
	manifests := map[string]*strings.Builder{}
	for _, f := range w.files() {
		group := "groups/base"
		if f.d%2 == 1 {
			group = "groups/web"
		}
		name := fmt.Sprintf("%s/m%02d.yaml", group, f.d)
		m := manifests[name]
		if m == nil {
			m = &strings.Builder{}
			manifests[name] = m
			fmt.Fprintf(m, "- directory: /srv/trued/d%02d\n  parents: true\n", f.d)
		}
		how := "source: files/" + f.path()
		if w.template(f) {
			how = "template: templates/" + f.path()
			write(b, w.repo+"/"+group+"/templates/"+f.path(), f.text("{{ vars.site }}"))
		} else {
			write(b, w.repo+"/"+group+"/files/"+f.path(), f.text("example"))
		}
		fmt.Fprintf(m, "- file: /srv/trued/%s\n  %s\n  mode: \"0644\"\n", f.path(), how)
	}
	for name, m := range manifests {
		write(b, w.repo+"/"+name, m.String())
	}
}

// The shortest ways of the others: one recursive copy. CFEngine's compares
// digests; what it does by default, comparing times, sees no drift, since a file
// that was changed on the host is newer than its source.

const cfHead = `body common control { bundlesequence => { "main" }; }
`

func cfTree(compare string) string {
	return cfHead + `bundle agent main
{
  files:
    "/srv/cfengine-tree/." create => "true", copy_from => from("/srv/work/plain"), depth_search => all;
}
body copy_from from(dir) { source => "$(dir)"; compare => "` + compare + `"; }
body depth_search all { depth => "inf"; }
`
}

const puppetTree = `file { '/srv/puppet-tree': ensure => directory, recurse => true, source => 'file:///srv/work/plain' }
`

const ansibleTree = `- hosts: all
  gather_facts: false
  tasks:
    - file: {path: /srv/ansible-tree, state: directory}
    - unarchive: {src: /srv/work/plain.tar, dest: /srv/ansible-tree, remote_src: true}
`

// And one promise, resource or item for each file.

func (w workload) cfEach() string {
	var b strings.Builder
	b.WriteString(cfHead + `bundle agent main
{
  vars: "site" string => "example";
  files:
`)
	for _, f := range w.files() {
		if w.template(f) {
			fmt.Fprintf(&b, "    \"/srv/cfengine/%[1]s\" create => \"true\", edit_template => \"/srv/work/mustache/%[1]s\", template_method => \"mustache\", perms => mode;\n", f.path())
		} else {
			fmt.Fprintf(&b, "    \"/srv/cfengine/%[1]s\" copy_from => from(\"/srv/work/plain/%[1]s\"), perms => mode;\n", f.path())
		}
	}
	b.WriteString("}\nbody copy_from from(path) { source => \"$(path)\"; }\nbody perms mode { mode => \"644\"; }\n")
	return b.String()
}

func (w workload) puppet() string {
	var b strings.Builder
	b.WriteString("$site = 'example'\nfile { '/srv/puppet': ensure => directory }\n")
	for d := range directories {
		fmt.Fprintf(&b, "file { '/srv/puppet/d%02d': ensure => directory }\n", d)
	}
	for _, f := range w.files() {
		how := "source => 'file:///srv/work/plain/" + f.path() + "'"
		if w.template(f) {
			how = "content => template('/srv/work/erb/" + f.path() + "')"
		}
		fmt.Fprintf(&b, "file { '/srv/puppet/%s': ensure => file, mode => '0644', %s }\n", f.path(), how)
	}
	return b.String()
}

func (w workload) ansible() string {
	var plain, templates []string
	for _, f := range w.files() {
		if w.template(f) {
			templates = append(templates, f.path())
		} else {
			plain = append(plain, f.path())
		}
	}
	var b strings.Builder
	b.WriteString(`- hosts: all
  gather_facts: false
  vars: {site: example}
  tasks:
    - file: {path: "/srv/ansible/d{{ '%02d' % item }}", state: directory}
      loop: "{{ range(` + fmt.Sprint(directories) + `) | list }}"
    - copy: {src: "/srv/work/plain/{{ item }}", dest: "/srv/ansible/{{ item }}", mode: "0644", remote_src: true}
      loop: [` + strings.Join(plain, ", ") + "]\n")
	if len(templates) > 0 {
		b.WriteString(`    - template: {src: "/srv/work/jinja/{{ item }}", dest: "/srv/ansible/{{ item }}", mode: "0644"}
      loop: [` + strings.Join(templates, ", ") + "]\n")
	}
	return b.String()
}

// How each is started.
var (
	truedNow    = []string{"trued", "apply", "--boot"}
	truedPolls  = []string{"trued", "apply"}
	cfEngine    = func(policy string) []string { return []string{"cf-agent", "-K", "-f", "/srv/work/" + policy} }
	puppetApply = func(manifest string) []string { return []string{"puppet", "apply", "/srv/work/" + manifest} }
	ansiblePlay = func(play string) []string {
		return []string{"ansible-playbook", "-c", "local", "-i", "localhost,", "/srv/work/" + play}
	}
	ansibleEnv = []string{"ANSIBLE_PIPELINING=1"}
)

// aside moves a tree away: removing many files makes the next ones slow.
func aside(dir string) string {
	return "[ ! -e " + dir + " ] || mv " + dir + " /srv/aside/$RANDOM-$RANDOM; sync -f /srv; "
}

func TestAFileHasOneKiBWhoeverMakesIt(t *testing.T) {
	f := file{7, 123}
	if text := f.text("example"); len(text) != 1024 || strings.ReplaceAll(f.text("{{ site }}"), "{{ site }}", "example") != text {
		t.Errorf("%d bytes, and of a template %q", len(text), f.text("{{ site }}"))
	}
}
