package agent_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"trued.dev/trued/agent"
	sealing "trued.dev/trued/internal/secret"
	"trued.dev/trued/modules"
)

// Who may read one repository and write to another copies a secret that is
// encrypted for the host. Where each source has a key of its own it stays closed.
func TestASourceOpensNoSecretOfAnother(t *testing.T) {
	root, infra, app := t.TempDir(), t.TempDir(), t.TempDir()
	key := func(name string) sealing.Recipient {
		i, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(root, name), i.String()+"\n")
		r, err := sealing.ParseRecipient(i.Recipient().String())
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	seal := func(to sealing.Recipient, text string) string {
		data, err := sealing.Seal([]byte(text), []sealing.Recipient{to}, true)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	hosts, apps := key("etc/trued/host.key"), key("etc/trued/app.key")
	stolen := seal(hosts, "of infra")
	for dir, name := range map[string]string{infra: "infra", app: "app"} {
		put(t, filepath.Join(dir, "g/a.yaml"), "- {file: /srv/"+name+", parents: true, source: secrets/x.age}\n")
	}
	put(t, filepath.Join(infra, "g/secrets/x.age"), stolen)
	put(t, filepath.Join(app, "g/secrets/x.age"), seal(apps, "of the app"))
	put(t, filepath.Join(root, "trued.yaml"), "secrets: {identities: [/etc/trued/host.key]}\nsources:\n- {name: infra, dir: "+infra+", group: g}\n"+
		"- {name: app, dir: "+app+", group: g, secrets: {identities: [/etc/trued/app.key]}}\n")
	c, err := agent.LoadConfig(filepath.Join(root, "trued.yaml"), false)
	if err != nil {
		t.Fatal(err)
	}
	a, err := agent.New(c, agent.Options{
		Root: root, Version: "1.0.0", Log: slog.New(slog.DiscardHandler), ExitCode: func(agent.Verdict) int { return 0 }, Modules: modules.All,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	k := &kept{Agent: a, t: t, root: root, source: app}
	k.accepts("")
	k.holds("srv/infra", "of infra")
	k.holds("srv/app", "of the app")

	k.write("g/secrets/x.age", stolen)
	if verdict, summary := k.ask(); verdict != agent.Behind {
		t.Errorf("%s: %s", verdict, summary)
	}
	k.holds("srv/app", "of the app")
	status, err := a.Status(t.Context())
	if err != nil || !strings.Contains(status.Sources[1].Problem, "secrets/x.age") || !strings.Contains(status.Sources[1].Problem, apps.Key) {
		t.Errorf("status says %+v, error %v", status.Sources, err)
	}
	put(t, filepath.Join(root, "trued.yaml"), "sources: [{name: a, dir: /x, secrets: {identities: [a/b]}}]")
	if _, err := agent.LoadConfig(filepath.Join(root, "trued.yaml"), false); err == nil || !strings.Contains(err.Error(), "identities[0]") {
		t.Errorf("a relative path: %v", err)
	}
	_ = os.Remove(filepath.Join(root, "trued.yaml"))
}

// What takes the place of a secret is none: what it was is not told for that.
func TestASecretThatBecomesPlainIsNotTold(t *testing.T) {
	const marked = "Xyzzy31337Mark"
	root, dir := t.TempDir(), t.TempDir()
	i, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(root, "etc/trued/host.key"), i.String()+"\n")
	to, err := sealing.ParseRecipient(i.Recipient().String())
	if err != nil {
		t.Fatal(err)
	}
	data, err := sealing.Seal([]byte(marked), []sealing.Recipient{to}, true)
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "g/secrets/x.age"), string(data))
	put(t, filepath.Join(root, "srv/lines"), "a = b\n")
	put(t, filepath.Join(root, "trued.yaml"), "secrets: {identities: [/etc/trued/host.key]}\nsources: [{name: infra, dir: "+dir+", group: g}]\n")
	c, err := agent.LoadConfig(filepath.Join(root, "trued.yaml"), false)
	if err != nil {
		t.Fatal(err)
	}
	a, err := agent.New(c, agent.Options{
		Root: root, Version: "1.0.0", Log: slog.New(slog.DiscardHandler), ExitCode: func(agent.Verdict) int { return 0 }, Modules: modules.All,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	k := &kept{Agent: a, t: t, root: root, source: dir}
	manifest := func(value string) string {
		return "- file: /srv/x\n  content: '" + value + "'\n- line: pw\n  path: /srv/lines\n  match: ^pw\n  text: 'pw = " + value + "'\n" +
			"- ini: pw\n  path: /srv/lines\n  key: p\n  value: '" + value + "'\n"
	}
	k.write("g/a.yaml", manifest(`{{ secret "secrets/x.age" }}`))
	k.accepts("")
	k.write("g/a.yaml", manifest("plain"))
	k.accepts("")
	k.holds("srv/x", "plain")
	put(t, filepath.Join(root, "srv/x"), "other")
	k.accepts("")
	k.holds("srv/x", "plain")
	past, err := a.History(10)
	if err != nil {
		t.Fatal(err)
	}
	told := ""
	for _, p := range past {
		for _, e := range p.Events {
			told += string(e)
		}
	}
	if !strings.Contains(told, "-other") || !strings.Contains(told, "file:/srv/x") {
		t.Errorf("what drifts from then on is not told: %s", told)
	}
	err = filepath.WalkDir(filepath.Join(root, "var"), func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		if os.IsNotExist(err) || d.Type() == os.ModeSymlink {
			return nil
		}
		if strings.Contains(string(text), marked) {
			at := strings.Index(string(text), marked)
			t.Errorf("%s has the secret: …%s", name, string(text)[max(0, at-300):at+20])
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
