package scenario_test

import (
	"fmt"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/report"
)

const (
	token      = "a-token-that-nobody-is-told"
	passphrase = "open-sesame-and-tell-nobody"
)

// silentServer listens in a host and says nothing: the kernel takes connections
// that no program answers. Its service starts when there is one.
func silentServer(t *testing.T, h *hosttest.Host, name string, port int) {
	t.Helper()
	h.Write(t, "/etc/systemd/system/"+name+".socket", fmt.Sprintf("[Socket]\nListenStream=127.0.0.1:%d\n", port))
	h.Write(t, "/etc/systemd/system/"+name+".service", "[Service]\nExecStart=sleep infinity\n")
	h.Run(t, "systemctl daemon-reload; systemctl start "+name+".socket")
}

// What talks to the network under the service that the package installs has no
// rights to speak of, and holds no secret where others could find it.
func TestProcessThatFetchesHasNoRights(t *testing.T) {
	t.Parallel()
	h := hosttest.Boot(t, hosttest.Options{Name: "fetch-1"})
	install(t, h)
	silentServer(t, h, "silent-http", 8081)
	silentServer(t, h, "silent-ssh", 8082)
	h.Write(t, "/etc/trued/token", token+"\n")
	h.Write(t, "/etc/trued/passphrase", passphrase+"\n")
	h.Copy(t, lockedKey(t), "/etc/trued/deploy")
	h.Run(t, "chmod 600 /etc/trued/token /etc/trued/passphrase /etc/trued/deploy; chmod 700 /etc/trued")
	config{url: "http://127.0.0.1:8081/hosts.git", group: "groups/web", source: []string{
		"urls: ['ssh://git@127.0.0.1:8082/hosts.git']", "token_file: /etc/trued/token",
		"ssh_key_file: /etc/trued/deploy", "ssh_passphrase_file: /etc/trued/passphrase", "limits: {time: 1h, idle: 20m}",
	}}.write(t, h)
	h.Run(t, "systemctl start trued.service")
	agent := property(t, h, "trued.service", "MainPID")

	for _, server := range []string{"silent-http", "silent-ssh"} {
		h.Await(t, "systemctl is-active --quiet "+server+".service")
		child := fetcher(t, h, agent)
		wantConfined(t, h, agent, child)
		// The next URL is tried when this one's process is lost.
		h.Run(t, "kill -KILL "+child+"; while kill -0 "+child+" 2>/dev/null; do sleep 0.05; done")
	}
	if got := property(t, h, "trued.service", "MainPID"); got != agent {
		t.Errorf("the agent was process %s and is %s after its fetches were killed", agent, got)
	}
}

// A process that gives up its rights as the fetch does, started by the service,
// is refused what the agent keeps to itself.
func TestProcessThatFetchesIsRefusedTheAgentsSecrets(t *testing.T) {
	t.Parallel()
	h := hosttest.Boot(t, hosttest.Options{Name: "fetch-2"})
	install(t, h)
	program := filepath.Join(t.TempDir(), "source.test")
	build := exec.Command("go", "test", "-c", "-o", program, "../../internal/source")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	h.Copy(t, program, "/usr/local/bin/source.test")
	h.Write(t, "/etc/trued/token", token+"\n")
	h.Write(t, "/etc/trued/deploy", "a key\n")
	h.Run(t, "chmod 600 /etc/trued/token /etc/trued/deploy; chmod 700 /etc/trued")
	h.Write(t, "/srv/infra/groups/web/all.yaml", "- file: /etc/motd\n  content: kept\n")
	config{dir: "/srv/infra", group: "groups/web"}.write(t, h)
	h.Write(t, "/usr/local/bin/pry", `#!/bin/sh
for s in /etc/trued /etc/trued/trued.yaml /etc/trued/token /etc/trued/deploy /var/lib/trued /var/lib/trued/sources \
	/run/trued /proc/1/environ "/proc/$MAINPID/environ"; do
	export TRUED_TEST_SECRETS="${TRUED_TEST_SECRETS:+$TRUED_TEST_SECRETS:}$s"
done
exec source.test -test.v -test.run '^(TestChildCanDoNoMoreThanFetch|TestRunningChildIsAnotherUser.*)$' >/root/pried 2>&1
`)
	h.Write(t, "/etc/systemd/system/trued.service.d/pry.conf", "[Service]\nExecStartPost=/bin/sh /usr/local/bin/pry\n")
	out, code := h.Try(t, "systemctl daemon-reload; systemctl start trued.service")
	said := h.Read(t, "/root/pried")
	if strings.Contains(said, "no Landlock") && hasLandlock() {
		t.Error("the machine has Landlock, and the host does not")
	}
	if code != 0 || strings.Contains(said, "SKIP") || strings.Count(said, "\n--- PASS") != 2 {
		t.Errorf("systemctl start: exit code %d\n%s\n%s", code, out, said)
	}
}

// hasLandlock asks the kernel, which is the hosts' too.
func hasLandlock() bool {
	const createRuleset, versionFlag = 444, 1
	version, _, errno := syscall.Syscall(createRuleset, 0, 0, versionFlag)
	return errno == 0 && version > 0
}

// fetcher returns the one process that the agent has started.
func fetcher(t *testing.T, h *hosttest.Host, agent string) string {
	t.Helper()
	pids := strings.Fields(h.Run(t, "cat /proc/"+agent+"/task/*/children"))
	if len(pids) != 1 {
		t.Fatalf("the agent's children are %v, want one", pids)
	}
	return pids[0]
}

func wantConfined(t *testing.T, h *hosttest.Host, agent, child string) {
	t.Helper()
	const none = "0000000000000000"
	mine := fields(h.Read(t, "/proc/"+agent+"/status"))
	if mine["CapEff"] == none || mine["NoNewPrivs"] != "0" {
		t.Fatalf("the agent has no rights that its child could have: %v", mine)
	}
	threads := strings.Fields(h.Run(t, "echo /proc/"+child+"/task/*/status"))
	if len(threads) < 2 {
		t.Errorf("process %s has the threads %v", child, threads)
	}
	for _, thread := range threads {
		status := fields(h.Read(t, thread))
		for key, want := range map[string]string{
			"Uid": "61000 61000 61000 61000", "Gid": "61000 61000 61000 61000", "Groups": "",
			"CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none,
			"NoNewPrivs": "1", "Seccomp": "2",
		} {
			if got, ok := status[key]; got != want || !ok {
				t.Errorf("%s of %s is %q, want %q", key, thread, got, want)
			}
		}
		// The container and the service have filters, too.
		if filters(t, status) <= filters(t, mine) {
			t.Errorf("%s has %s filters of system calls, the agent has %s", thread, status["Seccomp_filters"], mine["Seccomp_filters"])
		}
	}
	if group, its := processGroup(t, h, child), processGroup(t, h, agent); group != child || group == its {
		t.Errorf("process %s is of group %s, the agent of %s", child, group, its)
	}
	for _, file := range []string{"cmdline", "environ"} {
		text := h.Read(t, "/proc/"+child+"/"+file)
		for _, secret := range []string{token, passphrase, "PRIVATE KEY", "8081", "8082"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s of the process that fetches has %q", file, secret)
			}
		}
	}
	wantNoFiles(t, h, child)
	dir := h.Run(t, "readlink /proc/"+child+"/cwd")
	if owner := h.Run(t, "stat -c '%u %a' "+dir); owner != "61000 700" || !strings.HasPrefix(path.Base(dir), "quarantine.") {
		t.Errorf("the process that fetches works in %q (%s)", dir, owner)
	}
}

// wantNoFiles checks that a process has three pipes, a connection, and what its
// own runtime waits with.
func wantNoFiles(t *testing.T, h *hosttest.Host, child string) {
	t.Helper()
	var kinds []string
	for _, file := range strings.Fields(h.Run(t, "cd /proc/"+child+"/fd; for f in *; do readlink $f; done")) {
		kind, _, _ := strings.Cut(strings.TrimPrefix(file, "anon_inode:"), ":")
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	if got := strings.Join(kinds, " "); got != "[eventfd] [eventpoll] pipe pipe pipe socket" {
		t.Errorf("the process that fetches has open: %s", got)
	}
}

// fields are the lines of a status file.
func fields(status string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(line, ":")
		all[key] = strings.Join(strings.Fields(value), " ")
	}
	return all
}

func filters(t *testing.T, status map[string]string) int {
	t.Helper()
	n, err := strconv.Atoi(status["Seccomp_filters"])
	if err != nil {
		t.Fatalf("number of filters: %v", err)
	}
	return n
}

func processGroup(t *testing.T, h *hosttest.Host, pid string) string {
	t.Helper()
	stat := h.Read(t, "/proc/"+pid+"/stat")
	// After the name, which may hold anything: state, parent, group.
	return strings.Fields(stat[strings.LastIndex(stat, ")")+1:])[2]
}

// lockedKey returns the file of a private key that only its passphrase opens.
func lockedKey(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "deploy")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", file).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	return file
}

// A Git server that says nothing keeps no drift from being put back, and is heard once
// it speaks.
func TestDriftWaitsForNoServerThatSaysNothing(t *testing.T) {
	t.Parallel()
	lab := hosttest.New(t)
	git := lab.GitServer(t)
	repo := git.Repository(t, "infra")
	h := lab.Boot(t, hosttest.Options{Name: "web-1", Net: true})
	install(t, h)
	commit := repo.Commit(t, "Begin", map[string]string{"groups/web/all.yaml": "- file: /etc/motd\n  content: \"kept\\n\"\n"})
	config{url: repo.HTTP(), group: "groups/web", source: []string{"limits: {time: 1h, idle: 20m}"}}.write(t, h)
	h.Run(t, "systemctl start trued.service")
	awaitCommit(t, h, commit)

	git.Run(t, "systemctl kill -s STOP nginx")
	// A poll that goes well is over by then.
	await(t, h, `trued status -o json | grep -q '"doing": "running"' && sleep 2 && trued status -o json | grep -q '"doing": "running"'`)
	h.Run(t, "echo broken >/etc/motd")
	await(t, h, "grep -qx kept /etc/motd")
	git.Run(t, "systemctl kill -s CONT nginx")
	awaitCommit(t, h, repo.Commit(t, "Go on", map[string]string{"groups/web/all.yaml": "- file: /etc/motd\n  content: \"kept on\\n\"\n"}))
	for _, e := range events(t, h) {
		if strings.HasPrefix(string(e.Type), "source.") && e.Type != report.SourceUpdated {
			t.Errorf("%s: %s", e.Type, e.Message)
		}
	}
}
