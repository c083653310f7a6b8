package source_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"trued.dev/trued/internal/source"
)

func TestSmartHTTPIsFetchedAndUpdated(t *testing.T) {
	u := newUpstream(t)
	first := u.put("motd", "one\n")
	h := open(t, source.Config{URL: u.serveHTTP(), Branch: "main"})
	h.fetch()
	h.wantAt(first)
	if err := h.SetApplied(first); err != nil {
		t.Fatal(err)
	}
	u.put("motd", "two\n")
	second := u.put("other", "three\n")
	h.fetch()
	h.wantAt(second)
	if got := h.read(second, "motd"); got != "two\n" {
		t.Errorf("motd is %q", got)
	}
	h.fetch()
	h.fsck()
}

func TestSSHIsFetched(t *testing.T) {
	u := newUpstream(t)
	s := startSSHD(t)
	first := u.put("motd", "one\n")
	locked := s.newKey("locked", "open sesame")
	passphrase := filepath.Join(s.dir, "passphrase")
	if err := os.WriteFile(passphrase, []byte("open sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		cfg   source.Config
		known []string
		hash  bool
	}{
		"with a deploy key":                    {cfg: source.Config{SSHKeyFile: s.key}, known: []string{"ed25519"}},
		"with a passphrase":                    {cfg: source.Config{SSHKeyFile: locked, SSHPassphraseFile: passphrase}, known: []string{"ed25519"}},
		"with hashed known_hosts":              {cfg: source.Config{SSHKeyFile: s.key}, known: []string{"ed25519"}, hash: true},
		"with a host key of another type only": {cfg: source.Config{SSHKeyFile: s.key}, known: []string{"rsa"}},
	} {
		t.Run(name, func(t *testing.T) {
			s.know(test.known...)
			if test.hash {
				if out, err := exec.Command("ssh-keygen", "-q", "-H", "-f", s.knownHosts).CombinedOutput(); err != nil {
					t.Fatalf("ssh-keygen -H: %v\n%s", err, out)
				}
			}
			test.cfg.URL, test.cfg.KnownHostsFile, test.cfg.Branch = s.url(u), s.knownHosts, "main"
			h := open(t, test.cfg)
			h.fetch()
			h.wantAt(first)
		})
	}
	t.Run("and updated over several commits", func(t *testing.T) {
		s.know("ecdsa")
		h := open(t, source.Config{URL: s.url(u), SSHKeyFile: s.key, KnownHostsFile: s.knownHosts})
		if err := h.SetApplied(h.fetch().Commit); err != nil {
			t.Fatal(err)
		}
		u.put("motd", "two\n")
		u.put("motd", "three\n")
		last := u.put("motd", "four\n")
		h.fetch()
		h.wantAt(last)
		h.fsck()
	})
}

func TestSSHServerMustBeKnown(t *testing.T) {
	u := newUpstream(t)
	s := startSSHD(t)
	u.put("motd", "one\n")
	other := filepath.Join(s.dir, "other_known_hosts")
	s.keygen("ed25519", "stranger")
	for name, test := range map[string]struct {
		known func() string
		want  string
	}{
		"no key is known": {func() string { return "" }, "add this line to known_hosts_file"},
		"another key is known": {func() string {
			public, err := os.ReadFile(filepath.Join(s.dir, "stranger.pub"))
			if err != nil {
				t.Fatal(err)
			}
			line, err := os.ReadFile(s.knownHosts)
			if err != nil {
				t.Fatal(err)
			}
			host, _, _ := strings.Cut(string(line), " ")
			return host + " " + string(public)
		}, "another than the one in known_hosts_file"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(other, []byte(test.known()), 0o644); err != nil {
				t.Fatal(err)
			}
			h := open(t, source.Config{URL: s.url(u), SSHKeyFile: s.key, KnownHostsFile: other})
			_, err := h.Fetch(context.Background())
			if !errors.Is(err, source.ErrHostKey) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want ErrHostKey that says %q", err, test.want)
			}
		})
	}
}
