package scenario_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/report"
)

// A vendor has a repository of packages on the lab's network, below its name,
// signed with a key of its own.
type vendor struct {
	name string
	key  *openpgp.Entity
	// signs is the time that signatures are made at.
	signs time.Time

	mu    sync.Mutex
	files map[string][]byte
	asked map[string]int
}

// newVendor makes one whose key was made some time ago, and lives for a time; for
// ever with 0.
func newVendor(t *testing.T, name string, ago, lives time.Duration) *vendor {
	t.Helper()
	return keyedVendor(t, name, time.Now().Add(-ago), lives, nil)
}

// keyedVendor makes one whose key is made of what is random; of the machine's own
// with nil.
func keyedVendor(t *testing.T, name string, made time.Time, lives time.Duration, random io.Reader) *vendor {
	t.Helper()
	key, err := openpgp.NewEntity(name, "", name+"@example.com", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, DefaultHash: crypto.SHA512, Rand: random,
		Time: func() time.Time { return made }, KeyLifetimeSecs: uint32(lives / time.Second),
	})
	if err != nil {
		t.Fatal(err)
	}
	return &vendor{name: name, key: key, signs: made.Add(time.Minute), files: map[string][]byte{}, asked: map[string]int{}}
}

// publish puts small packages into the repository, each called NAME_VERSION, in
// place of what was there.
func (v *vendor) publish(t *testing.T, h *hosttest.Host, packages ...string) {
	t.Helper()
	files := map[string][]byte{}
	var index strings.Builder
	for _, p := range packages {
		name, version, _ := strings.Cut(p, "_")
		control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: Nobody <nobody@example.com>\nDescription: a test\n", name, version)
		h.Run(t, "rm -rf /srv/build; mkdir -p /srv/build/DEBIAN")
		h.Write(t, "/srv/build/DEBIAN/control", control)
		h.Run(t, "dpkg-deb --root-owner-group -b /srv/build /srv/package.deb")
		deb := []byte(h.Read(t, "/srv/package.deb"))
		files[p+".deb"] = deb
		fmt.Fprintf(&index, "%sFilename: ./%s.deb\nSize: %d\nSHA256: %x\n\n", control, p, len(deb), sha256.Sum256(deb))
	}
	files["Packages"] = []byte(index.String())
	release := fmt.Sprintf("Origin: %s\nSuite: stable\nDate: %s\nSHA256:\n %x %d Packages\n",
		v.name, time.Now().UTC().Add(-time.Minute).Format(time.RFC1123), sha256.Sum256(files["Packages"]), len(files["Packages"]))
	var signed bytes.Buffer
	w, err := clearsign.Encode(&signed, v.key.PrivateKey, &packet.Config{DefaultHash: crypto.SHA512, Time: func() time.Time { return v.signs }})
	if err == nil {
		_, err = w.Write([]byte(release))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	files["InRelease"] = signed.Bytes()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.files = files
}

// armored is the vendor's public key as it is in Git.
func (v *vendor) armored(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	if err == nil {
		err = v.key.Serialize(w)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String() + "\n"
}

func (v *vendor) fingerprint() string { return fmt.Sprintf("%X", v.key.PrimaryKey.Fingerprint) }

func (v *vendor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/"+v.name+"/")
	name = strings.TrimPrefix(name, "./")
	v.mu.Lock()
	content, ok := v.files[name]
	v.asked[name]++
	v.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write(content)
}

// times is how often a file was asked for.
func (v *vendor) times(name string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.asked[name]
}

// manifest is the vendor's repository at a server as a resource, its key in files.
func (v *vendor) manifest(server string) string {
	return fmt.Sprintf("- repository: %s\n  uris: [http://%s/%s]\n  suites: [./]\n  signed_by: files/%s.asc\n  fingerprint: %s\n",
		v.name, server, v.name, v.name, v.fingerprint())
}

// vendors serves repositories to the hosts of a lab.
func vendors(t *testing.T, lab *hosttest.Lab, port string, all ...*vendor) {
	t.Helper()
	listener, err := lab.Listen(port)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for _, v := range all {
		mux.Handle("/"+v.name+"/", v)
	}
	server := &http.Server{Handler: mux}
	go func() { _ = server.Serve(listener) }() // it ends with Close
	t.Cleanup(func() { _ = server.Close() })
}

// A package that comes from a repository of the same run is there after the
// first one, and what is wrong with one repository is not wrong with the rest.
func TestPackagesComeFromARepositoryOfTheSameRun(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	lab := hosttest.New(t)
	h := lab.Boot(t, hosttest.Options{Name: "web-1", Net: true})
	good, expired, down := newVendor(t, "good", day, 0), newVendor(t, "expired", 10*day, 9*day), newVendor(t, "down", day, 0)
	vendors(t, lab, "8090", good, expired)
	good.publish(t, h, "vend-hello_1.0")
	expired.publish(t, h, "vend-late_1.0")
	install(t, h)
	config{dir: "/srv/infra", group: "groups/web"}.write(t, h)
	for _, v := range []*vendor{good, expired, down} {
		h.Write(t, "/srv/infra/groups/web/files/"+v.name+".asc", v.armored(t))
	}
	declare := func(manifest string) { h.Write(t, "/srv/infra/groups/web/all.yaml", manifest) }
	version := func(name, want string) {
		t.Helper()
		if got, _ := h.Try(t, "dpkg-query -W -f '${db:Status-Abbrev}${Version}' "+name+" 2>/dev/null"); strings.TrimSpace(got) != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}

	// Written the wrong way round, even.
	declare("- package: vend-hello\n" + good.manifest("gateway:8090"))
	trued(t, h, 0, "apply")
	version("vend-hello", "ii 1.0")
	asked := good.times("InRelease")
	if out := trued(t, h, 0, "apply"); strings.Contains(out, "repository:") || strings.Contains(out, "package:") {
		t.Errorf("a second run still changes:\n%s", out)
	}
	if now := good.times("InRelease"); now != asked {
		t.Errorf("a second run fetched the index %d times", now-asked)
	}

	// A server that is down, a key that has expired, and the rest goes on.
	good.publish(t, h, "vend-hello_1.0", "vend-more_2.0")
	declare("- package: vend-hello\n- package: vend-more\n- package: vend-late\n- package: vend-lost\n" +
		good.manifest("gateway:8090") + expired.manifest("gateway:8090") + down.manifest("localhost:8099") + "- file: /etc/motd\n  content: on\n")
	if out := trued(t, h, 2, "plan"); !strings.Contains(out, "the key "+expired.fingerprint()+" expired on ") {
		t.Errorf("the plan does not tell that a key has expired:\n%s", out)
	}
	out := trued(t, h, 3, "apply")
	version("vend-hello", "ii 1.0")
	version("vend-more", "ii 2.0")
	h.Run(t, "grep -qx on /etc/motd")
	failed := events(t, h)
	for name, want := range map[string]string{"vend-late": "EXPKEYSIG", "vend-lost": "localhost:8099"} {
		told := failed.about("package:" + name)
		if len(told) != 1 || told[0].Type != report.ResourceFailed || !strings.Contains(told[0].ErrorMessage, want) || strings.Contains(told[0].ErrorMessage, "Get:") {
			t.Errorf("of %s is told:\n%s\nand apply says:\n%s", name, told, out)
		}
	}

	// Without the others what is down alone is no error of apt's.
	declare("- package: vend-lost\n" + good.manifest("gateway:8090") + down.manifest("localhost:8099") + "- package: vend-hello\n")
	trued(t, h, 3, "apply --accept-prune")
	if out := trued(t, h, 3, "apply"); !strings.Contains(out, "Could not connect to localhost:8099") {
		t.Errorf("apply does not tell which server is down:\n%s", out)
	}
	version("vend-hello", "ii 1.0")

	// A key that is not the one that was agreed upon changes nothing.
	before := h.Run(t, "find /etc/apt -type f | sort | xargs sha256sum")
	declare(strings.Replace(good.manifest("gateway:8090"), good.fingerprint(), down.fingerprint(), 1))
	if out, code := h.Try(t, "trued apply"); code == 0 || !strings.Contains(out, "all.yaml:5:16: repository:good: fingerprint: it is "+down.fingerprint()+", and the key has "+good.fingerprint()) {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if now := h.Run(t, "find /etc/apt -type f | sort | xargs sha256sum"); now != before {
		t.Errorf("/etc/apt is\n%s\nand was\n%s", now, before)
	}

	// What leaves takes its files along.
	declare("- file: /etc/motd\n  content: off\n")
	trued(t, h, 0, "sync --accept-prune || trued apply --accept-prune")
	if left := h.Run(t, "ls /etc/apt/keyrings /etc/apt/sources.list.d"); strings.Contains(left, "good") || strings.Contains(left, "down") {
		t.Errorf("there is still\n%s", left)
	}
	version("vend-hello", "")
}
