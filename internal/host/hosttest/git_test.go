package hosttest_test

import (
	"testing"

	"trued.dev/trued/internal/host/hosttest"
)

func TestGitServerServesCommits(t *testing.T) {
	t.Parallel()
	lab := hosttest.New(t)
	git := lab.GitServer(t)
	web := lab.Boot(t, hosttest.Options{Name: "web", Net: true})
	repo := git.Repository(t, "infra/hosts")
	first := repo.Commit(t, "First", map[string]string{"groups/web/a.yaml": "- file: /etc/motd\n", "b": "b"})

	web.Write(t, "/root/ca.pem", git.CA)
	web.Write(t, "/root/.ssh/known_hosts", git.KnownHosts(t))
	web.Write(t, "/root/.ssh/id_ed25519", git.NewKey(t))
	web.Run(t, "chmod 600 /root/.ssh/id_ed25519; git config --global http.sslCAInfo /root/ca.pem")
	private := "-c http.extraHeader='Authorization: Bearer " + hosttest.GitToken + "' " + repo.Private()
	for _, url := range []string{repo.HTTP(), repo.HTTPS(), repo.SSH(), private} {
		if got := web.Run(t, "GIT_TERMINAL_PROMPT=0 git -c core.askPass=true clone -q "+url+" /root/c; git -C /root/c rev-parse HEAD; rm -r /root/c"); got != first {
			t.Errorf("%s is at %q, not at %s", url, got, first)
		}
	}
	if out, code := web.Try(t, "GIT_TERMINAL_PROMPT=0 git ls-remote "+repo.Private()); code == 0 {
		t.Errorf("the private repository needs no token: %s", out)
	}

	dir := t.TempDir()
	repo.CommitTree(t, "Empty it", dir)
	if got := repo.Git(t, "ls-files"); got != "" {
		t.Errorf("an empty tree has %q", got)
	}
	second := repo.Revert(t)
	repo.Remove(t, "Remove b", "b")
	if got := repo.Git(t, "ls-files"); got != "groups/web/a.yaml" {
		t.Errorf("the tree has %q", got)
	}
	repo.Git(t, "reset -q --hard "+second)
	if got := web.Run(t, "git ls-remote "+repo.SSH()+" refs/heads/main | cut -f1"); got != second {
		t.Errorf("main is at %s, not at %s", got, second)
	}
}
