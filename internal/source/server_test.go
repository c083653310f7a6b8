package source_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// httpBackend is git's own smart HTTP server for the directory that holds the
// upstream.
func (u *upstream) httpBackend() http.Handler {
	u.t.Helper()
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		u.t.Fatal(err)
	}
	backend := filepath.Join(strings.TrimSpace(string(path)), "git-http-backend")
	if _, err := os.Stat(backend); err != nil {
		u.t.Fatalf("git-http-backend is missing: %v", err)
	}
	return &cgi.Handler{
		Path: backend,
		Env: []string{
			"GIT_PROJECT_ROOT=" + filepath.Dir(u.bare), "GIT_HTTP_EXPORT_ALL=1",
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
		},
		Stderr: os.Stderr,
	}
}

// serveHTTP returns the URL of the upstream on a server of its own.
func (u *upstream) serveHTTP() string {
	u.t.Helper()
	s := httptest.NewServer(u.httpBackend())
	u.t.Cleanup(s.Close)
	return s.URL + "/hosts.git"
}

// An sshd is OpenSSH's server on a port of its own, with keys of its own.
type sshd struct {
	t    *testing.T
	dir  string
	port int
	// key is the file of a private key that is let in; hostKeys by type.
	key        string
	knownHosts string
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

func startSSHD(t *testing.T) *sshd {
	t.Helper()
	binary, err := exec.LookPath("sshd")
	if err != nil {
		binary = "/usr/sbin/sshd"
		if _, err := os.Stat(binary); err != nil {
			t.Fatal("sshd is missing: install openssh-server")
		}
	}
	// sshd insists on directories that nobody else can write to.
	dir, err := os.MkdirTemp("/root", "trued-sshd-")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &sshd{t: t, dir: dir, port: freePort(t)}
	for _, kind := range []string{"ed25519", "rsa", "ecdsa"} {
		s.keygen(kind, "host_"+kind)
	}
	s.key = s.newKey("client", "")
	s.knownHosts = filepath.Join(dir, "known_hosts")
	s.know("ed25519")
	config := fmt.Sprintf(`
Port %d
ListenAddress 127.0.0.1
HostKey %[2]s/host_ed25519
HostKey %[2]s/host_rsa
HostKey %[2]s/host_ecdsa
AuthorizedKeysFile %[2]s/authorized_keys
PidFile %[2]s/pid
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
PermitUserEnvironment no
MaxStartups 100
LogLevel ERROR
`, s.port, dir)
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	_ = os.MkdirAll("/run/sshd", 0o755)
	cmd := exec.Command(binary, "-D", "-e", "-f", filepath.Join(dir, "config"))
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
	})
	s.await()
	return s
}

// await returns when the server greets.
func (s *sshd) await() {
	s.t.Helper()
	for range 500 {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
		if err == nil {
			_, err = c.Read(make([]byte, 4))
			_ = c.Close()
			if err == nil {
				return
			}
		}
		if err := exec.Command("sleep", "0.02").Run(); err != nil {
			s.t.Fatal(err)
		}
	}
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	s.t.Fatalf("sshd does not answer:\n%s", log)
}

func (s *sshd) keygen(kind, name string) {
	s.t.Helper()
	out, err := exec.Command("ssh-keygen", "-q", "-t", kind, "-N", "", "-f", filepath.Join(s.dir, name)).CombinedOutput()
	if err != nil {
		s.t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
}

// newKey makes a key that the server lets in, and returns its private file.
func (s *sshd) newKey(name, passphrase string) string {
	s.t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	var block *pem.Block
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(private, "")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte(passphrase))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	file := filepath.Join(s.dir, name)
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		s.t.Fatal(err)
	}
	line, err := ssh.NewPublicKey(public)
	if err != nil {
		s.t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(s.dir, "authorized_keys"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Write(ssh.MarshalAuthorizedKey(line)); err != nil {
		s.t.Fatal(err)
	}
	return file
}

// know makes known_hosts hold the server's keys of these types alone.
func (s *sshd) know(kinds ...string) {
	s.t.Helper()
	var all strings.Builder
	for _, kind := range kinds {
		public, err := os.ReadFile(filepath.Join(s.dir, "host_"+kind+".pub"))
		if err != nil {
			s.t.Fatal(err)
		}
		fields := strings.Fields(string(public))
		fmt.Fprintf(&all, "[127.0.0.1]:%d %s %s\n", s.port, fields[0], fields[1])
	}
	if err := os.WriteFile(s.knownHosts, []byte(all.String()), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// knowAt makes known_hosts hold the server's key for an address in front of it.
func (s *sshd) knowAt(a net.Addr) {
	s.t.Helper()
	public, err := os.ReadFile(filepath.Join(s.dir, "host_ed25519.pub"))
	if err != nil {
		s.t.Fatal(err)
	}
	fields := strings.Fields(string(public))
	line := fmt.Sprintf("[127.0.0.1]:%d %s %s\n", a.(*net.TCPAddr).Port, fields[0], fields[1])
	if err := os.WriteFile(s.knownHosts, []byte(line), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// url is the upstream's URL at the server.
func (s *sshd) url(u *upstream) string {
	name := "root"
	if out, err := exec.Command("id", "-un").Output(); err == nil {
		name = strings.TrimSpace(string(out))
	}
	return fmt.Sprintf("ssh://%s@127.0.0.1:%d%s", name, s.port, u.bare)
}
