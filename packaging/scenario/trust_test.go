package scenario_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/report"
)

// An author makes commits that are signed on the machine, by git, ssh-keygen and
// gpg, and brings them to a server.
type author struct {
	t      *testing.T
	git    *hosttest.GitServer
	dir    string
	server string
	// openpgp chooses what is signed by.
	openpgp bool
}

func (a *author) sh(script string) string {
	a.t.Helper()
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir = a.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		a.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

// keys makes a key of each kind for everybody, and the host's files.
func (a *author) keys() {
	a.t.Helper()
	a.sh(`
for who in ada bob old new lost stranger; do
	ssh-keygen -q -t ed25519 -N '' -C '' -f $who
	home="--homedir $PWD/$who.gpg"; mkdir -m 700 $who.gpg; when=; expires=0
	case $who in
	old) when='--faked-system-time 20200101T000000!' expires=1d ;;
	new) when='--faked-system-time 20900101T000000!' ;;
	esac
	gpg -q --batch $home $when --passphrase '' --quick-generate-key "$who <$who@example.com>" ed25519 sign $expires
	printf '#!/bin/sh\nexec gpg --batch %s "$@"\n' "$home $when" >$who.sh; chmod +x $who.sh
	gpg -q --batch --armor $home --export >$who.asc
done
mkdir -m 700 all; sed 's/^://' lost.gpg/openpgp-revocs.d/*.rev >rev
gpg -q --batch --homedir $PWD/all --import lost.asc rev; gpg -q --batch --armor --homedir $PWD/all --export >lost.asc
cat ada.asc bob.asc old.asc new.asc lost.asc >keyring.asc
line() { echo "$1@example.com ${2-} $(cat $1.pub)"; }
{ line ada; line bob 'namespaces="git"'; line old 'valid-before="20200101Z"'; line new 'valid-after="20900101Z"'; line lost; } >allowed_signers
cp lost.pub revoked_keys
git init -q -b main work`)
}

func (a *author) by(who string) string {
	if a.openpgp {
		return fmt.Sprintf("-c gpg.program=%s/%s.sh -c user.signingkey=%s@example.com", a.dir, who, who)
	}
	return fmt.Sprintf("-c gpg.format=ssh -c user.signingkey=%s/%s", a.dir, who)
}

func (a *author) write(name, text string) {
	a.t.Helper()
	name = filepath.Join(a.dir, "work", name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
		a.t.Fatal(err)
	}
}

// commit has somebody sign what the host is to have, nobody for "".
func (a *author) commit(who, text string, date ...string) string {
	a.t.Helper()
	a.write("groups/web/a.yaml", fmt.Sprintf("- file: /etc/kept\n  content: %q\n", text))
	options, sign := "", ""
	if who != "" {
		options, sign = a.by(who), "-S"
	}
	when := ""
	if len(date) > 0 {
		when = "GIT_COMMITTER_DATE=" + date[0] + " "
	}
	a.sh("git -C work add -A; " + when + "git -C work " + options + " commit -q --allow-empty " + sign + " -m 'Say " + text + "'")
	return a.push()
}

// push brings the branch to the server, whatever was there.
func (a *author) push() string {
	a.t.Helper()
	a.sh("git -C work bundle create -q ../bundle main")
	a.git.Copy(a.t, filepath.Join(a.dir, "bundle"), "/root/bundle")
	a.git.Run(a.t, "git -C "+a.server+" fetch -q /root/bundle +main:main")
	return a.sh("git -C work rev-parse main")
}

func (a *author) reset(commit string) { a.sh("git -C work reset -q --hard " + commit) }

// Of what a Git server may send, a host applies what was signed by whom it lists,
// and nothing else changes a byte.
func TestHostObeysSignersAndNotTheGitServer(t *testing.T) {
	t.Parallel()
	lab := hosttest.New(t)
	git := lab.GitServer(t)
	repo := git.Repository(t, "infra")
	h := lab.Boot(t, hosttest.Options{Name: "trust-1", Net: true})
	install(t, h)
	a := &author{t: t, git: git, dir: t.TempDir(), server: "/srv/git/infra.git"}
	a.keys()
	for _, file := range []string{"allowed_signers", "revoked_keys", "keyring.asc"} {
		h.Copy(t, filepath.Join(a.dir, file), "/etc/trued/"+file)
	}
	h.Run(t, "chown root:root /etc/trued/*; chmod 644 /etc/trued/*")
	configure := func(lines ...string) {
		config{url: repo.HTTP(), group: "groups/web", source: lines}.write(t, h)
	}
	files := []string{"  allowed_signers: /etc/trued/allowed_signers", "  keyring: /etc/trued/keyring.asc", "  revoked: /etc/trued/revoked_keys"}
	configure(append([]string{"trust:", "  require: signature"}, files...)...)

	apply := func(code int, flags string) { t.Helper(); trued(t, h, code, "apply --wait 5m "+flags) }
	kept := func() string {
		t.Helper()
		return h.Run(t, "cat /etc/kept 2>/dev/null || true; stat -c '%i %Z' /etc/kept 2>/dev/null || true")
	}
	refuse := func(what, commit, reason, signer string, code int, first ...string) {
		t.Helper()
		before, told := kept(), events(t, h)
		h.Run(t, strings.Join(first, "\n"))
		apply(code, "")
		apply(code, "")
		if now := kept(); now != before {
			t.Errorf("%s: the host has %s and had %s", what, now, before)
		}
		refused := events(t, h).since(told).of(report.SourceRefused)
		if len(refused) != 1 || refused[0].ErrorType != reason || !strings.Contains(refused[0].Message, commit) || !strings.Contains(refused[0].Signer, signer) {
			t.Errorf("%s: told of as\n%s\nwant one refusal as %s of one signed by %q", what, refused, reason, signer)
		}
		if line := strings.SplitN(trued(t, h, code, "status"), "\n", 2)[0]; !strings.Contains(line, commit) && code == 4 {
			t.Errorf("%s: status begins with %q", what, line)
		}
	}
	accept := func(commit, flags string) {
		t.Helper()
		apply(0, flags)
		if out := trued(t, h, 0, "status -o json"); !strings.Contains(out, `"applied": "`+commit) {
			t.Errorf("the host is not at %s: %s", commit, out)
		}
	}

	first := a.commit("ada", "first")
	h.Run(t, "true >"+eventFile+" 2>/dev/null || { mkdir -p /var/log/trued; true >"+eventFile+"; }")
	apply(1, "") // nothing was ever applied, and nobody has accepted this one
	accept(first, "--accept-history")
	for _, a.openpgp = range []bool{false, true} {
		by := map[bool]string{false: "SSH", true: "OpenPGP"}[a.openpgp]
		for _, c := range []struct {
			reason, who, date, signer string
		}{
			{"unsigned", "", "", ""},
			{"unknown_key", "stranger", "", ""},
			{"expired", "old", "", "old"},
			{"not_yet_valid", "new", "", "new"},
			{"revoked", "lost", "", "lost"},
			{"future", "ada", "2035-01-01T00:00:00Z", ""},
			{"rewound", "ada", "2021-01-01T00:00:00Z", ""},
		} {
			good := a.sh("git -C work rev-parse HEAD")
			var date []string
			if c.date != "" {
				date = append(date, c.date)
			}
			bad := a.commit(c.who, "bad", date...)
			refuse(c.reason+", "+by, bad, c.reason, c.signer, 4)
			a.reset(good)
		}
		good := a.sh("git -C work rev-parse HEAD")
		a.commit("ada", "bad")
		a.sh(`git -C work cat-file commit HEAD | sed 's/^Say bad$/Say worse/' >raw
git -C work update-ref refs/heads/main $(git -C work hash-object -t commit -w ../raw)`)
		refuse("tampered, "+by, a.push(), "bad_signature", "", 4)
		a.reset(good)
		accept(a.commit("bob", "good, "+by), "")

		// Everything since the last trusted commit, merges included.
		configure(append([]string{"trust:", "  require: history"}, files...)...)
		good = a.sh("git -C work rev-parse HEAD")
		a.sh("git -C work checkout -q -b side; echo x >work/side; git -C work add -A; git -C work commit -q -m Side; git -C work checkout -q main")
		a.commit("ada", "beside")
		a.sh("git -C work " + a.by("ada") + " merge -q --no-ff -S -m Merge side")
		a.push()
		refuse("evil merge, "+by, a.sh("git -C work rev-parse side"), "unsigned", "", 4)
		a.sh("git -C work branch -q -D side")
		a.reset(good)
		accept(a.commit("ada", "after the merge, "+by), "")
		configure(append([]string{"trust:", "  require: signature"}, files...)...)
		accept(a.commit("ada", "as before, "+by), "")

		// The server goes back to what it had.
		good = a.sh("git -C work rev-parse HEAD")
		a.reset(good + "~1")
		refuse("an old one, "+by, a.push(), "rewound", "", 4)
		a.reset(good)
		a.push()
		accept(good, "")

		// Another repository of ours, in the place of this one.
		configure(append([]string{"repository: infra-prod", "trust:", "  require: signature"}, files...)...)
		a.write("repository.yaml", "name: infra-dev\n")
		refuse("foreign, "+by, a.commit("ada", "of dev"), "foreign_repository", "", 4)
		a.write("repository.yaml", "name: infra-prod\n")
		prod := a.commit("ada", "of prod, "+by)
		accept(prod, "")

		// Somebody holds back what is new. The host is kept to what it has.
		configure(append([]string{"trust:", "  require: signature", "  fresh_within: 1s"}, files...)...)
		told := events(t, h)
		h.Run(t, "sleep 2; echo drifted >/etc/kept")
		apply(0, "")
		apply(0, "")
		if stale := events(t, h).since(told).of(report.SourceStale); len(stale) != 1 || stale[0].ErrorType != "not_fresh" {
			t.Errorf("%s: a source that is held back is told of as\n%s", by, stale)
		}
		if got := h.Run(t, "cat /etc/kept"); got != "of prod, "+by {
			t.Errorf("%s: where new commits are held back the host has %q", by, got)
		}

		// A host that lost all it knew takes nothing, not even what it had, until it is
		// told where to begin; with an introduction it knows.
		configure(append([]string{"trust:", "  require: signature"}, files...)...)
		refuse("nothing known, "+by, prod, "no_anchor", "ada", 1, "rm -rf /var/lib/trued")
		configure(append([]string{"trust:", "  require: signature", "  introduction: " + prod}, files...)...)
		accept(a.commit("ada", "from the introduction, "+by), "")
		configure(append([]string{"trust:", "  require: signature"}, files...)...)
	}

	// A key is taken out of the hosts' keyring, three commits ago.
	accept(a.commit("bob", "by bob"), "")
	a.sh("cat ada.asc old.asc new.asc lost.asc >keyring.asc")
	h.Copy(t, filepath.Join(a.dir, "keyring.asc"), "/etc/trued/keyring.asc")
	a.commit("ada", "one")
	a.commit("ada", "two")
	accept(a.commit("ada", "three"), "")
	good := a.sh("git -C work rev-parse HEAD")
	refuse("out of the keyring", a.commit("bob", "bob again"), "unknown_key", "", 4)
	a.reset(good)
	a.openpgp = false

	// The repository lists its signers, and takes one off the list.
	list := func(who ...string) {
		text := ""
		for _, w := range who {
			text += w + "@example.com " + a.sh("cat "+w+".pub") + "\n"
		}
		a.write(".trued/allowed_signers", text)
	}
	list("ada", "bob")
	introduction := a.commit("ada", "introduction")
	configure("trust:", "  require: signature", "  signers: repository", "  introduction: "+introduction)
	accept(introduction, "")
	accept(a.commit("bob", "by bob"), "")
	list("ada")
	a.commit("ada", "bob goes")
	a.commit("ada", "one")
	last := a.commit("ada", "two")
	accept(last, "")
	refuse("removed three commits ago", a.commit("bob", "bob again"), "unknown_key", "", 4)
	a.reset(last)

	// A host that lost all it knew begins at the introduction again.
	h.Run(t, "rm -rf /var/lib/trued")
	accept(a.commit("ada", "again"), "")
	if t.Failed() {
		t.Logf("the host's events:\n%s", events(t, h))
	}
}
