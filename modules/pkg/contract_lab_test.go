package pkg

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
)

// A parcel is a small package that can be built for each manager. Its version
// has a release; provides may have a version behind an equals sign.
type parcel struct {
	name, version string
	depends       []string
	recommends    []string
	conflicts     []string
	provides      []string
	conffile      string // what is in /etc/NAME.conf; empty for none
	script        string // a line of shell to run after the installation
}

// A lab is a real package manager with a repository for it.
type lab struct {
	name      string
	osRelease string
	// begin makes the repository the only one.
	begin func(t *testing.T)
	// publish adds parcels to the repository; the manager knows of them after its
	// next refresh.
	publish func(t *testing.T, parcels ...parcel)
	// withdraw takes the file of a parcel away, which stays in the index.
	withdraw string
	refresh  string
	install  string // before names
	// age makes the index look as if it was fetched two hours ago.
	age string
	// version is what the manager itself says is installed, with %s for a name.
	version string
	held    string // lists what is held
	// transactions counts those that the manager itself has noted.
	transactions string
	auto         string // marks %s as a dependency
	recommends   bool
	vital        string // a package that must not go
}

func labs() []lab {
	return []lab{aptLab(), dnfLab(), zypperLab(), pacmanLab()}
}

func aptLab() lab {
	return lab{
		name: "apt", osRelease: "ID=debian\n",
		begin: useRepository,
		publish: func(t *testing.T, parcels ...parcel) {
			var debs []deb
			for _, p := range parcels {
				debs = append(debs, p.deb())
			}
			publish(t, debs...)
		},
		withdraw: "rm " + repository + "/%s_%s_all.deb", refresh: "apt-get -q update", install: "apt-get install -y",
		age:     "rm -f " + runDir + "/refreshed /var/lib/apt/periodic/update-success-stamp; touch -d '2 hours ago' " + aptLists,
		version: "dpkg-query -W -f '${db:Status-Status} ${Version}' %s | sed -n 's/^installed //p'",
		held:    "apt-mark showhold", transactions: "grep -c ^Start-Date /var/log/apt/history.log",
		auto:       "apt-mark auto %s",
		recommends: true, vital: "bash",
	}
}

// relation takes name>=version apart.
func relation(s string) (name, operator, version string) {
	i := strings.IndexAny(s, "<>=")
	if i < 0 {
		return s, "", ""
	}
	version = strings.TrimLeft(s[i:], "<>=")
	return s[:i], strings.TrimSuffix(s[i:], version), version
}

func relations(list []string, form string) []string {
	var out []string
	for _, s := range list {
		if name, operator, version := relation(s); operator != "" {
			s = fmt.Sprintf(form, name, operator, version)
		}
		out = append(out, s)
	}
	return out
}

func (p parcel) deb() deb {
	var fields strings.Builder
	field := func(key string, values []string) {
		if len(values) > 0 {
			fmt.Fprintf(&fields, "%s: %s\n", key, strings.Join(relations(values, "%s (%s %s)"), ", "))
		}
	}
	field("Depends", p.depends)
	field("Recommends", p.recommends)
	field("Conflicts", p.conflicts)
	field("Provides", p.provides)
	d := deb{name: p.name, version: p.version, fields: fields.String()}
	if p.conffile != "" {
		d.conffiles = map[string]string{"/etc/" + p.name + ".conf": p.conffile}
	}
	if p.script != "" {
		d.scripts = map[string]string{"postinst": p.script}
	}
	return d
}

const rpmRepository = "/srv/rpms"

func beginRPM(t *testing.T) {
	shell(t, "rm -rf "+rpmRepository+" /etc/yum.repos.d/* /etc/zypp/repos.d/* /var/cache/dnf /var/cache/zypp /var/lib/rpm /etc/zypp/locks "+runDir)
	shell(t, "sed -i '/^excludepkgs/d' /etc/dnf/dnf.conf; if [ -e /etc/dnf/plugins/versionlock.list ]; then : >/etc/dnf/plugins/versionlock.list; fi")
	shell(t, "mkdir -p /etc/rpm /var/lib/rpm "+rpmRepository)
	// Debian's rpm has a database for each user, and dnf's plugin for local
	// repositories wants keys of each package.
	write(t, "/etc/rpm/macros.dbpath", "%_dbpath /var/lib/rpm\n", 0o644)
	write(t, "/etc/dnf/plugins/local.conf", "[main]\nenabled=false\n", 0o644)
	write(t, "/etc/dnf/vars/releasever", "9\n", 0o644)
	shell(t, "rpm --initdb")
	// A database that became empty cannot be read by each zypper.
	publishRPM(t, parcel{name: "lab-base", version: "1-1", provides: []string{"/bin/sh"}}, parcel{name: "bash", version: "1-1"})
	shell(t, "rpm -i --nodeps "+rpmRepository+"/lab-base-*.rpm "+rpmRepository+"/bash-*.rpm")
}

// publishRPM builds all parcels that do not differ in the version alone at once:
// a spec may have many packages, and rpmbuild is slow to start.
func publishRPM(t *testing.T, parcels ...parcel) {
	for len(parcels) > 0 {
		seen := map[string]bool{}
		var now, later []parcel
		for _, p := range parcels {
			if seen[p.name] {
				later = append(later, p)
			} else {
				now = append(now, p)
			}
			seen[p.name] = true
		}
		buildRPMs(t, now)
		parcels = later
	}
	shell(t, "createrepo_c -q "+rpmRepository)
}

func buildRPMs(t *testing.T, parcels []parcel) {
	var spec, install, files, scripts strings.Builder
	spec.WriteString("Name: lab-source\nVersion: 1\nRelease: 1\nSummary: a test\nLicense: none\nBuildArch: noarch\n%description\na test\n")
	for _, p := range parcels {
		version, release, _ := strings.Cut(p.version, "-")
		epoch := ""
		if e, v, has := strings.Cut(version, ":"); has {
			epoch, version = "Epoch: "+e+"\n", v
		}
		fmt.Fprintf(&spec, "%%package -n %s\n%sVersion: %s\nRelease: %s\nSummary: a test\n", p.name, epoch, version, release)
		field := func(key string, values []string) {
			for _, v := range relations(values, "%s %s %s") {
				fmt.Fprintf(&spec, "%s: %s\n", key, v)
			}
		}
		field("Requires", p.depends)
		field("Recommends", p.recommends)
		field("Conflicts", p.conflicts)
		field("Provides", p.provides)
		fmt.Fprintf(&spec, "%%description -n %s\na test\n", p.name)
		fmt.Fprintf(&files, "%%files -n %s\n", p.name)
		if p.conffile != "" {
			fmt.Fprintf(&install, "mkdir -p %%{buildroot}/etc; printf '%%s' '%s' >%%{buildroot}/etc/%s.conf\n", p.conffile, p.name)
			fmt.Fprintf(&files, "%%config(noreplace) /etc/%s.conf\n", p.name)
		}
		if p.script != "" {
			fmt.Fprintf(&scripts, "%%post -n %s\n%s\n", p.name, p.script)
		}
	}
	text := spec.String() + "%install\n" + install.String() + scripts.String() + files.String()
	write(t, "/srv/lab.spec", text, 0o644)
	shell(t, `rpmbuild --quiet -bb --define '_rpmdir `+rpmRepository+`' --define '_topdir /srv/rpmbuild' \
		--define '_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.rpm' --define '__find_requires /bin/true' \
		--define '_binary_payload w1.gzdio' /srv/lab.spec`)
}

func rpmLab(name, osRelease string) lab {
	return lab{
		name: name, osRelease: osRelease, publish: publishRPM,
		withdraw: "rm " + rpmRepository + "/%s-%s.rpm", version: "rpm -q --qf '%%{VERSION}-%%{RELEASE}' %s",
		recommends: true, vital: "bash",
	}
}

func dnfLab() lab {
	l := rpmLab("dnf", "ID=rocky\nID_LIKE=\"rhel centos fedora\"\n")
	l.begin = func(t *testing.T) {
		beginRPM(t)
		write(t, "/etc/yum.repos.d/lab.repo", "[lab]\nname=The lab\nbaseurl=file://"+rpmRepository+"\nenabled=1\ngpgcheck=0\n", 0o644)
		shell(t, l.refresh)
	}
	l.refresh, l.install = "dnf -q makecache --refresh", "dnf -q -y install"
	l.age = "rm -f " + runDir + "/refreshed; find /var/cache/dnf -name repomd.xml -exec touch -d '2 hours ago' {} +"
	l.transactions = "dnf -q history list | grep -c '^ *[0-9]'"
	l.held = "if [ -e " + dnfLockers + " ]; then dnf -q versionlock list; else sed -n 's/^excludepkgs = //p' " + dnfConf + " | tr , '\\n'; fi"
	return l
}

func zypperLab() lab {
	l := rpmLab("zypper", "ID=opensuse-leap\n")
	l.begin = func(t *testing.T) {
		beginRPM(t)
		write(t, "/etc/zypp/repos.d/lab.repo", "[lab]\nname=The lab\nbaseurl=file://"+rpmRepository+"\nenabled=1\ngpgcheck=0\nautorefresh=0\n", 0o644)
		shell(t, l.refresh)
	}
	l.refresh, l.install = "zypper -q -n refresh -f", "zypper -q -n --no-refresh install"
	l.age = "rm -f " + runDir + "/refreshed; find " + zyppCache + " -exec touch -h -d '2 hours ago' {} +"
	l.held, l.transactions = "zypper -q locks", "grep -c '|command|' /var/log/zypp/history"
	return l
}

const pacmanRepository = "/srv/pac"

func pacmanLab() lab {
	l := lab{
		name: "pacman", osRelease: "ID=arch\n", publish: publishPac,
		withdraw: "rm " + pacmanRepository + "/%s-%s-any.pkg.tar.gz", refresh: "pacman -Syq --noprogressbar",
		install: "pacman -S --needed --noconfirm --noprogressbar",
		age:     "rm -f " + runDir + "/refreshed; touch -d '2 hours ago' " + pacmanSync,
		version: "pacman -Q %s | cut -d' ' -f2", held: "pacman-conf IgnorePkg", transactions: "grep -c 'transaction started' /var/log/pacman.log", auto: "pacman -D --asdeps %s", vital: "bash",
	}
	l.begin = func(t *testing.T) {
		shell(t, "rm -rf "+pacmanRepository+" /var/lib/pacman /var/cache/pacman "+runDir+"; mkdir -p "+pacmanRepository+" /var/lib/pacman")
		write(t, pacmanConf, "[options]\nArchitecture = auto\nSigLevel = Never\n\n[lab]\nServer = file://"+pacmanRepository+"\n", 0o644)
		publishPac(t, parcel{name: "bash", version: "1-1"})
		shell(t, l.refresh+" && "+l.install+" bash")
	}
	return l
}

// publishPac writes packages and the index of the repository as makepkg and
// repo-add do. Like there, the index has the last version of each alone.
func publishPac(t *testing.T, parcels ...parcel) {
	t.Helper()
	write(t, pacmanRepository+"/.keep", "", 0o644)
	index := map[string]string{}
	entries, _ := os.ReadDir(pacmanRepository + "/index")
	for _, e := range entries {
		data, err := os.ReadFile(pacmanRepository + "/index/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		index[e.Name()] = string(data)
	}
	for _, p := range parcels {
		index[p.name] = p.pac(t)
		write(t, pacmanRepository+"/index/"+p.name, index[p.name], 0o644)
	}
	files := map[string]string{}
	for name, desc := range index {
		version, _, _ := strings.Cut(desc[strings.Index(desc, "%VERSION%\n")+10:], "\n")
		files[name+"-"+version+"/desc"] = desc
	}
	// pacman fetches an index anew when it is younger by a second.
	at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	if info, err := os.Stat(pacmanRepository + "/lab.db"); err == nil {
		at = info.ModTime().Add(time.Minute)
	}
	write(t, pacmanRepository+"/lab.db", archive(t, files), 0o644)
	if err := os.Chtimes(pacmanRepository+"/lab.db", at, at); err != nil {
		t.Fatal(err)
	}
}

// pac builds a package and returns what the index says of it.
func (p parcel) pac(t *testing.T) string {
	var info, desc strings.Builder
	fmt.Fprintf(&info, "pkgname = %s\npkgver = %s\npkgdesc = a test\narch = any\nsize = 1\nbuilddate = 1\n", p.name, p.version)
	file := fmt.Sprintf("%s-%s-any.pkg.tar.gz", p.name, p.version)
	fmt.Fprintf(&desc, "%%FILENAME%%\n%s\n\n%%NAME%%\n%s\n\n%%VERSION%%\n%s\n\n%%ARCH%%\nany\n\n%%ISIZE%%\n1\n\n", file, p.name, p.version)
	for _, f := range []struct {
		key, word string
		values    []string
	}{{"DEPENDS", "depend", p.depends}, {"CONFLICTS", "conflict", p.conflicts}, {"PROVIDES", "provides", p.provides}} {
		if len(f.values) > 0 {
			fmt.Fprintf(&desc, "%%%s%%\n%s\n\n", f.key, strings.Join(f.values, "\n"))
		}
		for _, v := range f.values {
			fmt.Fprintf(&info, "%s = %s\n", f.word, v)
		}
	}
	files := map[string]string{}
	if p.conffile != "" {
		fmt.Fprintf(&info, "backup = etc/%s.conf\n", p.name)
		files["etc/"+p.name+".conf"] = p.conffile
	}
	if p.script != "" {
		files[".INSTALL"] = "post_install() {\n" + p.script + "\n}\n"
	}
	files[".PKGINFO"] = info.String()
	content := archive(t, files)
	write(t, pacmanRepository+"/"+file, content, 0o644)
	fmt.Fprintf(&desc, "%%CSIZE%%\n%d\n\n%%SHA256SUM%%\n%x\n\n", len(content), sha256.Sum256([]byte(content)))
	return desc.String()
}

func archive(t *testing.T, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		dir := path.Dir(name)
		if dir != "." {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}); err != nil {
				t.Fatal(err)
			}
		}
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(files[name]))})
		if err == nil {
			_, err = w.Write([]byte(files[name]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
