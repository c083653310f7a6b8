package scenario_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
	"trued.dev/trued/internal/report/sinktest"
)

const recipes = "../recipes"

// What a host's journal has of the agent comes to a central one with all its
// fields, over HTTPS with certificates on both ends, also what was written while
// the centre was down.
func TestJournalsGoToACentralOne(t *testing.T) {
	t.Parallel()
	lab := hosttest.New(t)
	packages := []string{"systemd-journal-remote"}
	logs := lab.Boot(t, hosttest.Options{Name: "logs", Net: true, Packages: packages})
	web := lab.Boot(t, hosttest.Options{Name: "web-1", Net: true, Packages: packages})
	certs := sinktest.NewCertificates(t, "logs")
	for _, file := range []string{"ca.pem", "server.pem", "server.key"} {
		logs.Copy(t, filepath.Join(certs.Dir, file), "/etc/logs/"+file)
	}
	install(t, web)
	for _, file := range []string{"ca.pem", "client.pem", "client.key"} {
		web.Copy(t, filepath.Join(certs.Dir, file), "/etc/trued/"+file)
	}
	logs.Copy(t, recipes+"/journal-upload/journal-remote.conf", "/etc/systemd/journal-remote.conf.d/trued.conf")
	logs.Run(t, "chgrp -R systemd-journal-remote /etc/logs; chmod 755 /etc/logs; chmod 640 /etc/logs/*; systemctl enable --quiet --now systemd-journal-remote.socket")
	web.Copy(t, recipes+"/journal-upload/journal-upload.conf", "/etc/systemd/journal-upload.conf.d/trued.conf")
	web.Copy(t, recipes+"/journal-upload/journal-upload.service.conf", "/etc/systemd/system/systemd-journal-upload.service.d/trued.conf")
	web.Run(t, "systemctl daemon-reload; systemctl enable --quiet --now systemd-journal-upload.service")

	web.Write(t, "/srv/lab/groups/web/all.yaml", "- file: /etc/motd\n  content: kept\n")
	config{dir: "/srv/lab", group: "groups/web"}.write(t, web)
	web.Run(t, "systemctl start trued.service")
	arrives(t, logs, "TRUED_RESOURCE=file:/etc/motd", "TRUED_CAUSE=intended")

	logs.Run(t, "systemctl stop systemd-journal-remote.socket systemd-journal-remote.service")
	web.Run(t, "echo broken >/etc/motd")
	trued(t, web, 0, "sync")
	logs.Run(t, "systemctl start systemd-journal-remote.socket")
	got := arrives(t, logs, "TRUED_RESOURCE=file:/etc/motd", "TRUED_CAUSE=drift")
	for field, want := range map[string]string{
		"SYSLOG_IDENTIFIER": "trued", "TYPE": "resource.drifted", "TRUED_OUTCOME": "repaired", "TRUED_RESOURCE_KIND": "file",
		"HOST_NAME": "web-1", "TRUED_GROUP": "groups/web", "PRIORITY": "4",
	} {
		if got[field] != want {
			t.Errorf("the field %s is %q, want %q", field, got[field], want)
		}
	}
	last := events(t, web)
	if want := last.about("file:/etc/motd"); got["EVENT_ID"] != want[len(want)-1].ID {
		t.Errorf("the entry has the id %q; the events are\n%s", got["EVENT_ID"], last)
	}
}

// arrives waits for an entry in the central journal, and returns its fields.
func arrives(t *testing.T, logs *hosttest.Host, matches ...string) map[string]string {
	t.Helper()
	look := "journalctl -D /var/log/journal/remote -o json -n 1 " + strings.Join(matches, " ")
	await(t, logs, look+" | grep -q EVENT_ID")
	var entry map[string]any
	if err := json.Unmarshal([]byte(logs.Run(t, look)), &entry); err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{}
	for name, value := range entry {
		if s, ok := value.(string); ok {
			fields[name] = s
		}
	}
	return fields
}

// What the recipes say for the agent is a configuration.
func TestRecipesAreConfigurations(t *testing.T) {
	t.Parallel()
	all, err := filepath.Glob(recipes + "/*/trued.yaml")
	if err != nil || len(all) < 5 {
		t.Fatalf("%d recipes: %v", len(all), err)
	}
	h := hosttest.Boot(t, hosttest.Options{})
	install(t, h)
	for _, name := range all {
		h.Copy(t, name, "/root/recipe.yaml")
		if out, code := h.Try(t, "trued report status --config /root/recipe.yaml"); code != 0 || !strings.Contains(out, "journal") {
			t.Errorf("%s: exit code %d\n%s", name, code, out)
		}
	}
}
