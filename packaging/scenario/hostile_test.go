package scenario_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"trued.dev/trued/internal/host/hosttest"
)

// A mark begins all that is secret on the host but keys, and nothing else. What is
// open to all shows that what is looked through is what the daemon writes.
const (
	mark       = "marked-"
	openToAll  = "open-to-all"
	confidants = `- file: /etc/told-content
  content: "marked-content\n"
  sensitive: true
- file: /etc/told-template
  template: templates/t
  mode: "0600"
  sensitive: true
- file: /etc/refused
  content: "marked-refused\n"
  sensitive: true
  validate: sh -c 'echo mark"ed-validate"; cat "$0"; touch /run/asked; while ! test -e /run/answered; do sleep 0.05; done; cat "$0" >&2; exit 1' {path}
  timeout: 20m
- file: /etc/open
  content: "open-to-all\n"
  validate: sh -c 'cat "$0"; exit 1' {path}
`
)

// hostileConfig has sources that cannot be fetched, each with a credential.
const hostileConfig = `sources:
  - {name: infra, dir: /srv/infra, group: groups/web}
  - {name: told, url: "http://127.0.0.1:8081/told.git", group: g, username: robot, token_file: /etc/trued/token, limits: &long {time: 1h, idle: 20m}}
  - {name: locked, url: "ssh://git@127.0.0.1:8082/locked.git", group: g, ssh_key_file: /etc/trued/deploy, ssh_passphrase_file: /etc/trued/passphrase, limits: *long}
  - {name: passed, url: "https://git.invalid/passed.git", group: g, proxy: "http://robot:marked-proxy@127.0.0.1:8083", limits: *long}
interval: 1h
resync: 1h
watch: false
report:
  - journal
  - file: ` + eventFile + `
`

// A daemon that knows secrets, and that others on its host would harm.
func TestDaemonAmongStrangers(t *testing.T) {
	t.Parallel()
	h := hosttest.Boot(t, hosttest.Options{Name: "strangers"})
	install(t, h)
	servers := []string{"silent-1", "silent-2", "silent-3"}
	for i, name := range servers {
		silentServer(t, h, name, 8081+i)
	}
	h.Write(t, "/root/mark", mark+"\n")
	h.Write(t, "/etc/trued/token", "marked-token\n")
	h.Write(t, "/etc/trued/passphrase", passphrase+"\n")
	h.Copy(t, lockedKey(t), "/etc/trued/deploy")
	h.Write(t, "/srv/infra/groups/web/group.yaml", "vars: {password: marked-variable}\n")
	h.Write(t, "/srv/infra/groups/web/templates/t", "{{ vars.password }} of marked-template\n")
	h.Write(t, "/srv/infra/groups/web/all.yaml", confidants)
	h.Run(t, "printf '%s\\n' "+passphrase+" 'PRIVATE KEY' >>/root/mark; chmod -R go= /etc/trued /srv/infra")
	h.Write(t, "/etc/trued/trued.yaml", hostileConfig)
	h.Run(t, "chmod 600 /etc/trued/trued.yaml; systemctl start trued.service")
	agent := property(t, h, "trued.service", "MainPID")

	for _, name := range servers {
		h.Await(t, "systemctl is-active --quiet "+name+".service")
		child := fetcher(t, h, agent)
		wantNothingMarked(t, h, processes)
		h.Run(t, "systemctl stop "+name+".socket "+name+".service; kill -KILL "+child+" 2>/dev/null || true; while kill -0 "+child+" 2>/dev/null; do sleep 0.05; done")
	}
	h.Await(t, "test -e /run/asked")
	wantNothingMarked(t, h, processes)
	h.Run(t, "touch /run/answered")
	h.Await(t, "grep -q 'run[.]finished' "+eventFile)
	trued(t, h, 3, "sync") // the sources are refused now
	wantNothingMarked(t, h, places)
	h.Run(t, "grep -q "+openToAll+" "+eventFile+"; journalctl --sync; journalctl -o export --all | grep -a -c "+openToAll)
	// What was fetched is kept as it came, and for root alone.
	h.Run(t, "test \"$(stat -c %u%a /var/lib/trued)\" = 0700; test \"$(stat -c %u%a /run/trued)\" = 0700")
	h.Run(t, "grep -q marked-content /etc/told-content; grep -q 'marked-variable of marked-template' /etc/told-template")
	if t.Failed() {
		return
	}

	crowd(t, h, agent)

	// What kills a process and has its memory written down finds it unwilling.
	if limits := h.Run(t, "grep '^Max core file size' /proc/"+agent+"/limits"); strings.Join(strings.Fields(limits), " ") != "Max core file size 0 0 bytes" {
		t.Errorf("the agent has %q", limits)
	}
	h.Run(t, "touch /root/before; systemctl kill --kill-whom=main -s ABRT trued.service")
	h.Await(t, "! kill -0 "+agent)
	h.Run(t, "systemctl stop trued.service")
	if cores := h.Run(t, `find / -xdev -type f -newer /root/before \( -name 'core' -o -name 'core.*' -o -name '*.core' -o -path '*/coredump/*' \) -not -path '/proc/*' -not -path '/sys/*'`); cores != "" {
		t.Errorf("an agent that was aborted left %s", cores)
	}
	wantNothingMarked(t, h, places)
}

// What prints all that is known of processes, and of everywhere else that the
// daemon and its commands write to. Each part of it begins with its name.
const (
	processes = `for p in /proc/[0-9]*; do for f in cmdline environ; do printf '\n== %s\n' $p/$f; cat $p/$f 2>/dev/null || true; done; done`
	places    = `journalctl --sync
say() { printf '\n== %s\n' "$*"; "$@" 2>&1 || true; }
say journalctl -o export --all
say journalctl -o json --all
for format in text json; do
	for what in plan status history 'report status' "diff"; do say trued $what -o $format; done
	for run in $(trued history | cut -c 22-33); do say trued history $run -o $format; done
	for file in told-content told-template refused open; do say trued explain file:/etc/$file -o $format; done
done
find /var/lib/trued /var/cache /var/log/trued /run /tmp /var/tmp -xdev -path '/var/lib/trued/sources/*/objects' -prune -o -print -type f -exec sh -c 'for f; do printf "\n== %s\n" "$f"; cat "$f" || true; done' sh {} + 2>/dev/null || true
` + processes
)

// wantNothingMarked looks for marks in what a script prints in a host. Neither
// the script nor what looks has one in its words.
func wantNothingMarked(t *testing.T, h *hosttest.Host, script string) {
	t.Helper()
	h.Write(t, "/root/look", script)
	found := h.Run(t, "bash /root/look >/root/seen; test -s /root/seen; LC_ALL=C awk -v marks=/root/mark '"+
		`BEGIN { while ((getline m < marks) > 0) all[m] } /^== / { place = $0 } { for (m in all) if (index($0, m)) print place ": " substr($0, 1, 300) }`+
		"' /root/seen | head -n 20")
	if found != "" {
		t.Errorf("a secret is where it does not belong:\n%s", found)
	}
}

// crowd has another user at the control socket, and then everybody, and wants
// the daemon to be what it was.
func crowd(t *testing.T, h *hosttest.Host, agent string) {
	t.Helper()
	const socket = "/run/trued/trued.sock"
	const connect = `setpriv --reuid=65534 --regid=65534 --clear-groups perl -MSocket -e '
$SIG{PIPE} = "IGNORE"; socket(S, PF_UNIX, SOCK_STREAM, 0) or die; connect(S, pack_sockaddr_un("` + socket + `")) or die "connect: $!\n";
syswrite(S, "{\"protocol\":1,\"method\":\"suspend\",\"params\":{\"reason\":\"x\"}}\n"); sysread(S, $a, 4096); print $a'`
	if out, code := h.Try(t, connect); code == 0 || !strings.Contains(out, "connect: Permission denied") {
		t.Errorf("another user, at the socket: exit code %d, %s", code, out)
	}
	// Should the modes be lost, the daemon itself looks at who is there.
	h.Run(t, "chmod 755 /run/trued; chmod 666 "+socket)
	if out, _ := h.Try(t, connect); !strings.Contains(out, `"forbidden"`) {
		t.Errorf("the daemon answers another user with %q", out)
	}
	h.Run(t, "chmod 600 "+socket+"; chmod 700 /run/trued")

	memory, files := resident(t, h, agent), openFiles(t, h, agent)
	path := h.Root() + socket
	for _, words := range []string{"hello\n", "\n", "null\n", "{\"protocol\":1,\"method\":\"reboot\"}\n", "\x00\xff\n", strings.Repeat("x", 1<<20)} {
		conn := dial(t, path)
		// A daemon that has heard enough closes.
		_, _ = conn.Write([]byte(words))
		var answer bytes.Buffer
		_, _ = answer.ReadFrom(conn)
		if !strings.Contains(answer.String(), `"error"`) && len(words) < 1<<16 {
			t.Errorf("the answer to %.50q is %q", words, answer.String())
		}
		_ = conn.Close()
	}
	const half, all = 100, 10_000
	var open []net.Conn
	for i := range all {
		conn := dial(t, path)
		switch i % 3 {
		case 0:
			_, _ = conn.Write([]byte(`{"protocol":1,"method":`))
		case 1:
			_, _ = conn.Write([]byte(`{"protocol":1,"method":"status"}` + "\n"))
		}
		if i < half {
			open = append(open, conn)
			continue
		}
		_ = conn.Close()
	}
	for _, conn := range open {
		_ = conn.Close()
	}

	h.Run(t, "echo broken >/etc/told-content")
	h.Await(t, "(trued status -o json || true) | grep -q '\"daemon\": true'")
	trued(t, h, 3, "sync")
	h.Run(t, "grep -q marked-content /etc/told-content")
	if now := property(t, h, "trued.service", "MainPID"); now != agent {
		t.Errorf("the agent was process %s and is %s after the crowd", agent, now)
	}
	// The collector gives memory back when it sees fit.
	await(t, h, fmt.Sprintf("[ $(ls /proc/%s/fd | wc -l) -le %d ]", agent, files+4))
	await(t, h, fmt.Sprintf("[ $(sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/%s/status) -le %d ]", agent, memory+16<<10))
	t.Logf("before the crowd %d KiB and %d files, after it %d KiB and %d files", memory, files, resident(t, h, agent), openFiles(t, h, agent))
}

// dial connects when the daemon has room for one more in its queue.
func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	for {
		conn, err := net.Dial("unix", path)
		if errors.Is(err, unix.EAGAIN) {
			runtime.Gosched()
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(5 * time.Minute))
		return conn
	}
}

// resident returns the memory of a process, in KiB.
func resident(t *testing.T, h *hosttest.Host, pid string) int {
	t.Helper()
	var n int
	if _, err := fmt.Sscan(fields(h.Read(t, "/proc/"+pid+"/status"))["VmRSS"], &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func openFiles(t *testing.T, h *hosttest.Host, pid string) int {
	t.Helper()
	return len(strings.Fields(h.Run(t, "ls /proc/"+pid+"/fd")))
}
