package hosttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"
)

// GitToken opens the private URLs of a GitServer, as a bearer token or as the
// password of the user "git", "token", "oauth2" or "x-access-token".
const GitToken = "a-token-of-the-lab"

// A GitServer is a host with real Git repositories: smart HTTP and HTTPS by
// git-http-backend under nginx, and OpenSSH with a user "git".
type GitServer struct {
	*Host
	// CA is the certificate that HTTPS is verified with, in PEM.
	CA string
}

// A Repository is one repository of a GitServer, with a work tree in the
// server that commits are made in. Its branch is main.
type Repository struct {
	server *GitServer
	name   string
}

// GitServer boots a host "git" that serves repositories to the lab.
func (l *Lab) GitServer(t testing.TB) *GitServer {
	t.Helper()
	g := &GitServer{Host: l.Boot(t, Options{
		Name: "git", Net: true, Packages: []string{"nginx-light", "fcgiwrap", "openssh-server"},
	})}
	cert, key, err := certificate(g.Name())
	if err != nil {
		t.Fatalf("cannot make a certificate: %v", err)
	}
	g.CA = cert
	g.Write(t, "/etc/nginx/git.crt", cert)
	g.Write(t, "/etc/nginx/git.key", key)
	g.Write(t, "/etc/nginx/sites-enabled/default", nginxSite())
	g.Run(t, `
useradd --system --home-dir /srv/git --shell /usr/bin/git-shell --password '*' git
install -d -o git -g git /srv/git /srv/git/.ssh
install -d /root/work
git config --system safe.directory '*'
git config --system init.defaultBranch main
git config --system user.name 'Ada Admin'
git config --system user.email ada@example.com
systemctl reload-or-restart nginx
systemctl is-active --quiet nginx fcgiwrap.socket ssh`)
	return g
}

func nginxSite() string {
	var allowed strings.Builder
	for _, user := range []string{"git", "token", "oauth2", "x-access-token"} {
		fmt.Fprintf(&allowed, "\t\"Basic %s\" 1;\n", base64.StdEncoding.EncodeToString([]byte(user+":"+GitToken)))
	}
	const backend = `
		include fastcgi_params;
		fastcgi_param SCRIPT_FILENAME /usr/lib/git-core/git-http-backend;
		fastcgi_param GIT_HTTP_EXPORT_ALL 1;
		fastcgi_param GIT_PROJECT_ROOT /srv/git;
		fastcgi_param PATH_INFO $1;
		fastcgi_pass unix:/run/fcgiwrap.socket;`
	return `
map_hash_bucket_size 256;
map $http_authorization $allowed {
	default 0;
	"Bearer ` + GitToken + `" 1;
` + allowed.String() + `}
server {
	listen 80;
	listen 443 ssl;
	ssl_certificate /etc/nginx/git.crt;
	ssl_certificate_key /etc/nginx/git.key;
	client_max_body_size 0;
	location ~ ^/private(/.*)$ {
		if ($allowed = 0) {
			add_header WWW-Authenticate 'Basic realm="git"' always;
			return 401;
		}` + backend + `
	}
	location ~ ^(/.*)$ {` + backend + `
	}
}
`
}

// certificate returns a certificate of a server that is its own authority.
func certificate(name string) (cert, key string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * 365 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return "", "", err
	}
	encode := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return encode("CERTIFICATE", signed), encode("PRIVATE KEY", der), nil
}

// KnownHosts returns the server's SSH host keys as lines of a known_hosts file.
func (g *GitServer) KnownHosts(t testing.TB) string {
	t.Helper()
	return g.Run(t, `for f in /etc/ssh/ssh_host_*_key.pub; do echo "git $(cut -d' ' -f1,2 "$f")"; done`) + "\n"
}

// NewKey returns a private key, as OpenSSH writes it, that may use the server
// as its user "git".
func (g *GitServer) NewKey(t testing.TB) string {
	t.Helper()
	return g.Run(t, `rm -f /root/key /root/key.pub; ssh-keygen -q -t ed25519 -N '' -f /root/key
cat /root/key.pub >>/srv/git/.ssh/authorized_keys; cat /root/key`) + "\n"
}

// Repository makes an empty repository, named without ".git".
func (g *GitServer) Repository(t testing.TB, name string) *Repository {
	t.Helper()
	r := &Repository{server: g, name: name}
	g.Run(t, fmt.Sprintf(`git init -q --bare /srv/git/%[1]s.git; chown -R git:git /srv/git/%[1]s.git
git clone -q /srv/git/%[1]s.git %[2]s 2>/dev/null`, name, r.work()))
	return r
}

func (r *Repository) work() string { return "/root/work/" + r.name }

// HTTP returns the repository's URL for plain HTTP.
func (r *Repository) HTTP() string { return "http://git/" + r.name + ".git" }

// HTTPS returns its URL for HTTPS, which wants the server's CA.
func (r *Repository) HTTPS() string { return "https://git/" + r.name + ".git" }

// SSH returns its URL for SSH, which wants a key and the host keys.
func (r *Repository) SSH() string { return "ssh://git@git/srv/git/" + r.name + ".git" }

// Private returns its URL for HTTPS that wants GitToken, too.
func (r *Repository) Private() string { return "https://git/private/" + r.name + ".git" }

// Git runs git with the words of a line of shell in the work tree, pushes what
// came of it to the branch main, and returns what git wrote.
func (r *Repository) Git(t testing.TB, words string) string {
	t.Helper()
	out := r.server.Run(t, "cd "+r.work()+"; git "+words)
	r.server.Run(t, "cd "+r.work()+"; git push -q --force origin HEAD:main")
	return out
}

// Head returns the last commit.
func (r *Repository) Head(t testing.TB) string {
	t.Helper()
	return r.server.Run(t, "git -C "+r.work()+" rev-parse HEAD")
}

// Commit writes files, commits and pushes them, and returns the commit.
func (r *Repository) Commit(t testing.TB, message string, files map[string]string) string {
	t.Helper()
	for name, content := range files {
		r.server.Write(t, r.work()+"/"+name, content)
	}
	return r.commitAll(t, message)
}

// CommitTree makes the whole tree what a directory of the machine holds,
// commits and pushes that, and returns the commit.
func (r *Repository) CommitTree(t testing.TB, message, dir string) string {
	t.Helper()
	r.server.Run(t, "cd "+r.work()+"; find . -mindepth 1 -maxdepth 1 ! -name .git -exec rm -r {} +")
	r.server.Copy(t, dir, r.work())
	return r.commitAll(t, message)
}

// Remove removes paths, commits and pushes that, and returns the commit.
func (r *Repository) Remove(t testing.TB, message string, paths ...string) string {
	t.Helper()
	r.server.Run(t, "cd "+r.work()+"; rm -r "+strings.Join(paths, " "))
	return r.commitAll(t, message)
}

// Revert takes the last commit back, pushes that, and returns the new commit.
func (r *Repository) Revert(t testing.TB) string {
	t.Helper()
	r.Git(t, "revert --no-edit HEAD")
	return r.Head(t)
}

func (r *Repository) commitAll(t testing.TB, message string) string {
	t.Helper()
	r.server.Write(t, "/root/message", message)
	r.server.Run(t, "cd "+r.work()+"; git add -A; git commit -q -F /root/message; git push -q origin HEAD:main")
	return r.Head(t)
}
