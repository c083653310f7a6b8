package drift_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
)

// storming makes that many changes, and goes on until it is told to stop: files
// come, change and go in a tree, and what is declared there is broken.
const storming = `$| = 1; my $i = 0;
sub put { open my $f, ">", $_[0] or die; print $f $_[1]; close $f }
for (; $i < $ARGV[0] || !-e "/run/enough"; $i++) {
	my $name = "/srv/tree/s" . $i % 500;
	put($name, $i);
	unlink $name if $i % 3 == 0;
	rename $name, "$name.x" if $i % 7 == 1;
	if ($i % 1000 == 0) { put("/srv/tree/a", "broken\n"); put("/srv/one", "broken\n") }
}
print "$i changes\n";
`

// A storm in a directory that is managed neither fills the memory nor keeps the
// daemon from its polls, and when it is over all is as it should be.
func TestAStormFillsNoMemoryAndPutsOffNoPoll(t *testing.T) {
	t.Parallel()
	changes := 10_000
	if os.Getenv("TORTURE") == "full" {
		changes = 100_000
	}
	const tree = `
- file: /srv/one
  content: "one\n"
- directory: /srv/tree
  source: files/tree
`
	w := begin(t, "web-11", map[string]string{"all.yaml": tree, "files/tree/a": "a\n"})
	w.configure(t, "1s")
	w.Run(t, "systemctl restart trued.service")
	w.await(t, inOrder)
	w.settled(t)
	before := w.memory(t)
	w.Write(t, "/root/storm.pl", storming)
	w.Write(t, "/root/watch-memory", `#!/bin/sh
most=0
until [ -e /run/over ]; do
	now=$(sed -n 's/^Pss: *\([0-9]*\) kB/\1/p' /proc/$(systemctl show -P MainPID trued.service)/smaps_rollup)
	[ "${now:-0}" -le $most ] || echo "$now" >/run/most
	[ "${now:-0}" -le $most ] || most=$now
	sleep 0.2
done
`)
	w.Run(t, fmt.Sprintf("systemd-run -q --unit gauge sh /root/watch-memory; systemd-run -q --unit storm perl /root/storm.pl %d; sleep 1", changes))
	for round := range 3 {
		w.Write(t, "/srv/desired/groups/web/new.yaml", fmt.Sprintf("- file: /srv/new\n  content: \"%d\\n\"\n", round))
		w.await(t, fmt.Sprintf("grep -qx %d /srv/new", round))
	}
	w.Run(t, "systemctl is-active storm.service; touch /run/enough")
	w.Run(t, "while systemctl is-active -q storm.service; do sleep 1; done") // as long as it takes
	w.await(t, "grep -qx a /srv/tree/a && grep -qx one /srv/one && "+inOrder)
	w.Run(t, "touch /run/over; sleep 12")
	most, err := strconv.Atoi(w.Run(t, "cat /run/most"))
	if err != nil {
		t.Fatal(err)
	}
	after := w.memory(t)
	t.Logf("%s: %d kB before, at most %d kB, %d kB afterwards", w.Run(t, "journalctl -u storm -o cat | grep changes"), before, most, after)
	const bound = 64 << 10 // kB, whatever the storm
	if most > before+bound {
		t.Errorf("the daemon grew from %d to %d kB", before, most)
	}
	told := w.events(t).about("file:/srv/one")
	w.Run(t, "echo broken >/srv/one")
	w.await(t, "grep -qx one /srv/one")
	w.await(t, fmt.Sprintf(`[ "$(grep -F '"file:/srv/one"' %s | grep -c .)" -gt %d ]`, eventFile, len(told)))
}
