package scenario_test

import (
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
)

// A host gets a deploy user with keys, a setting, and commands that run when
// they are due and no more; then all of it leaves, and the host is as before.
func TestAccountsCommandsAndLinesComeAndGo(t *testing.T) {
	t.Parallel()
	h := hosttest.Boot(t, hosttest.Options{Name: "accounts"})
	install(t, h)
	h.Run(t, "printf '# ours\\n#Colour green\\n' >/etc/app.conf; printf '[net]\\nport = 1' >/etc/app.ini")
	const look = "cat /etc/passwd /etc/group /etc/subuid /etc/app.conf /etc/app.ini; ls -A /home"
	before := h.Run(t, look)
	config{dir: "/srv/repo", group: "groups/web"}.write(t, h)
	write := func(manifest string) { h.Write(t, "/srv/repo/groups/web/web.yaml", manifest) }
	h.Write(t, "/srv/repo/groups/web/files/deploy.pub",
		"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB5wQl8VbC9zD5x7dMoT4mEdpBqgmhmM4X7TttD4jhCo ci\n")
	manifest := `
- command: built
  run: id -un >built; echo built by $(id -un)
  creates: /home/deploy/built
  cwd: /home/deploy
  user: deploy
- command: echo reloaded >>/srv/reloads; echo told
  run_on: [line:colour]
- authorized_key: deploy
  source: files/deploy.pub
  exclusive: true
- user: deploy
  groups: [release]
  shell: /bin/sh
  password: $6$salt$0123456789secret
  remove_home: true
- group: release
- line: colour
  path: /etc/app.conf
  match: '^#?Colour'
  text: Colour blue
- block: rules
  path: /etc/app.conf
  content: "allow all\n"
- ini: port
  path: /etc/app.ini
  section: net
  key: port
  value: "2"
`
	write(manifest)
	out := trued(t, h, 2, "plan")
	for _, want := range []string{"would run, since /home/deploy/built is missing", "+Colour blue", "+ user:deploy"} {
		if !strings.Contains(out, want) {
			t.Errorf("plan does not say %q:\n%s", want, out)
		}
	}
	if after := h.Run(t, look); after != before {
		t.Errorf("plan changed the host:\n%s", after)
	}
	trued(t, h, 0, "apply")
	if got := h.Run(t, "cat /home/deploy/built /srv/reloads /etc/app.ini; tail -n4 /etc/app.conf; id -nG deploy; stat -c '%U %a' /home/deploy/.ssh/authorized_keys"); got !=
		"deploy\nreloaded\n[net]\nport = 2Colour blue\n# BEGIN rules, kept by trued\nallow all\n# END rules\ndeploy release\ndeploy 600" {
		t.Errorf("the host has\n%s", got)
	}
	told := events(t, h).about("command:built").String() + h.Read(t, eventFile)
	if !strings.Contains(told, "built by deploy") || strings.Contains(told, "0123456789secret") {
		t.Errorf("the events are\n%s", told)
	}
	trued(t, h, 0, "plan")
	trued(t, h, 0, "apply")
	write(strings.Replace(manifest, "Colour blue", "Colour red", 1))
	trued(t, h, 0, "apply")
	if got := h.Run(t, "cat /srv/reloads; grep Colour /etc/app.conf"); got != "reloaded\nreloaded\nColour red" {
		t.Errorf("after a change the host has\n%s", got)
	}
	write("- file: /srv/other\n  content: x\n")
	trued(t, h, 0, "apply --accept-prune")
	if after := h.Run(t, look); after != before {
		t.Errorf("the host is\n%s\nand was\n%s", after, before)
	}
}
