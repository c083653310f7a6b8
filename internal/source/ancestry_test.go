package source_test

import (
	"crypto/rand"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/source"
)

// grow adds commits to main that each rewrite a file, one of ten in turn, with
// content that does not compress.
func (u *upstream) grow(commits, size int) {
	u.t.Helper()
	var script strings.Builder
	for i := range commits {
		data := make([]byte, size)
		_, _ = rand.Read(data)
		fmt.Fprintf(&script, "commit refs/heads/main\ncommitter Ada <ada@example.com> %d +0000\ndata 1\nu\n", time.Now().Unix())
		if i == 0 {
			script.WriteString("from refs/heads/main^0\n")
		}
		fmt.Fprintf(&script, "M 100644 inline groups/g%d/busy\ndata %d\n%s\n", i%10, size, data)
	}
	u.runIn(u.bare, script.String(), "fast-import", "--quiet", "--force")
	u.git("pull", "-q", "origin", "main")
}

// A server that does not offer to leave out trees, as git's own does not unless
// it is told to, sends them after the commits; it is hung up on there. What it
// has sent ahead by then is bounded by what connections buffer, of which SSH has
// 2 MB, and not by the history.
func TestAncestryIsProvenByCommitsAlone(t *testing.T) {
	const size, requests, ahead = 50 << 10, 3, 5 << 19
	const content = 10 * size
	u := newUpstream(t)
	u.put("motd", "0\n")
	u.grow(60, size)
	u.git("branch", "feature")
	u.grow(60, size)
	applied := u.git("rev-parse", "main")
	// The host is away for some time, and then there is a merge of what forked
	// long before.
	u.grow(60, size)
	u.git("checkout", "-q", "feature")
	u.put("feature", "old\n")
	u.git("checkout", "-q", "main")
	u.git("merge", "-q", "--no-ff", "-m", "Merge feature", "feature")
	u.git("push", "-q", "origin", "main")
	u.grow(10, size)
	newest := u.git("rev-parse", "main")
	at, err := url.Parse(u.serveHTTP())
	if err != nil {
		t.Fatal(err)
	}
	s := startSSHD(t)
	for name, test := range map[string]struct {
		filter, scheme string
		most           int64
	}{
		"over HTTP, trees left out":     {"true", "http", 100 << 10},
		"over SSH, trees left out":      {"true", "ssh", 100 << 10},
		"over HTTP, trees not left out": {"false", "http", requests * ahead},
		"over SSH, trees not left out":  {"false", "ssh", requests * ahead},
	} {
		t.Run(name, func(t *testing.T) {
			u.run(u.bare, "config", "uploadpack.allowFilter", test.filter)
			u.run(u.bare, "update-ref", "refs/heads/main", applied)
			cfg := source.Config{URL: at.String(), Branch: "main"}
			m := meddle(t, at.Host)
			if test.scheme == "ssh" {
				m = meddle(t, fmt.Sprintf("127.0.0.1:%d", s.port))
				s.knowAt(m.l.Addr())
				cfg = source.Config{URL: s.url(u), Branch: "main", SSHKeyFile: s.key, KnownHostsFile: s.knownHosts}
			}
			cfg.URL = m.in(cfg.URL)
			h := open(t, cfg)
			h.apply(h.fetch().Commit)
			m.spoil(pass, 0)
			h.fetch()
			idle := m.sent.Load()
			u.run(u.bare, "update-ref", "refs/heads/main", newest)
			m.spoil(pass, 0)
			h.fetch()
			h.wantAt(newest)
			moved := m.sent.Load() - idle - content
			t.Logf("%d bytes beyond the references and the new files", moved)
			if moved > test.most {
				t.Errorf("the proof moves %d bytes, more than %d; the history has %d", moved, test.most, 190*size)
			}
			h.fsck()
		})
	}
}
