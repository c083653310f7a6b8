package bench_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"trued.dev/trued/internal/host/hosttest"
)

// rivals are installed in the measured host alone, with what it takes to let
// them manage packages.
var rivals = []string{"cfengine3", "puppet-agent", "ansible-core", "python3-apt"}

// A lab is the host that is measured, and the one that serves Git.
type lab struct {
	*testing.B
	host *hosttest.Host
	git  *hosttest.GitServer
	repo *hosttest.Repository
	// took is what the slow rivals took for how many files, to know when another
	// size would take too long.
	took map[string]seen
}

type seen struct {
	files int
	cpu   time.Duration
}

func newLab(b *testing.B) *lab {
	b.Helper()
	together := hosttest.New(b)
	l := &lab{B: b, git: together.GitServer(b), took: map[string]seen{}}
	l.host = together.Boot(b, hosttest.Options{Name: "bench", Net: true, Packages: rivals})
	l.repo = l.git.Repository(b, "hosts")
	dir := b.TempDir()
	for name, pkg := range map[string]string{"trued": "../../bin/trued", "gauge": ""} {
		path := pkg
		if pkg == "" {
			path = filepath.Join(dir, name)
			build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "./gauge")
			build.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				b.Fatalf("cannot build the gauge: %v\n%s", err, out)
			}
		}
		l.host.Copy(b, path, "/usr/bin/"+name)
	}
	l.host.Copy(b, "../trued.service", "/etc/systemd/system/trued.service")
	// Their own daemons are not to run beside.
	l.host.Run(b, `for u in puppet cfengine3 cf-execd cf-serverd cf-monitord; do systemctl disable -q --now $u 2>/dev/null || true; done
systemctl daemon-reload; mkdir -p /srv/aside /etc/trued
install -D -m755 /usr/share/cfengine3/masterfiles/modules/packages/vendored/apt_get.mustache /var/lib/cfengine3/modules/packages/apt_get`)
	return l
}

// A command is what the gauge starts and measures.
type command struct {
	Name   string   `json:"name"`
	Before string   `json:"before,omitempty"`
	Argv   []string `json:"argv"`
	Env    []string `json:"env,omitempty"`
	Dir    string   `json:"dir,omitempty"`
}

// A sample is what one start took.
type sample struct {
	CPU   time.Duration `json:"cpu"`
	Wall  time.Duration `json:"wall"`
	Asked time.Duration `json:"asked"`
	Peak  int64         `json:"peak"`
	Out   string        `json:"out"`
}

type samples map[string][]sample

// measure has the commands run in turn.
func (l *lab) measure(repeat int, commands ...command) samples {
	l.Helper()
	text, err := json.Marshal(map[string]any{"repeat": repeat, "commands": commands})
	if err != nil {
		l.Fatal(err)
	}
	var got samples
	l.gauge(string(text), &got, "measure")
	for name, all := range got {
		for _, s := range all {
			// Some say so and end well.
			if strings.Contains(strings.ToLower(s.Out), "error:") {
				l.Fatalf("%s went wrong:\n%s", name, s.Out)
			}
		}
	}
	l.Logf("%s %s", time.Now().Format("15:04:05"), got)
	return got
}

// gauge runs the gauge in the host and reads what it says.
func (l *lab) gauge(stdin string, into any, args ...string) {
	l.Helper()
	cmd := l.host.Command(l.Context(), append([]string{"gauge"}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		status, _ := l.host.Try(l, "trued status; journalctl -u trued --no-pager -n 20")
		l.Fatalf("gauge %s: %v\n%s\n%s", args, err, stderr.String(), status)
	}
	if err := json.Unmarshal(stdout.Bytes(), into); err != nil {
		l.Fatalf("gauge %s: %v\n%s", args, err, stdout.String())
	}
}

func (s samples) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(&b, "%s %s, ", name, s.cpu(name))
	}
	return strings.TrimSuffix(b.String(), ", ")
}

// cpu returns the median CPU time of a command; nothing when it did not run.
func (s samples) cpu(name string) cell {
	return s.median(name, func(x sample) float64 { return x.CPU.Seconds() }, seconds)
}

// asked returns the median of what systemd and D-Bus took meanwhile.
func (s samples) asked(name string) cell {
	return s.median(name, func(x sample) float64 { return x.Asked.Seconds() }, seconds)
}

// peak returns the median of the largest resident size.
func (s samples) peak(name string) cell {
	return s.median(name, func(x sample) float64 { return float64(x.Peak) / 1024 }, megabytes)
}

// alone returns the median of what a floor took less the start of the program.
func (s samples) alone(name string) cell {
	return s.median(name, func(x sample) float64 {
		ns, err := strconv.ParseFloat(strings.TrimSpace(x.Out), 64)
		if err != nil {
			panic("a floor prints what it took, and not " + x.Out)
		}
		return ns / 1e9
	}, seconds)
}

func (s samples) median(name string, of func(sample) float64, unit unit) cell {
	if len(s[name]) == 0 {
		return cell{}
	}
	var values []float64
	for _, x := range s[name] {
		values = append(values, of(x))
	}
	return cell{value: median(values), unit: unit}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[n/2] + sorted[(n-1)/2]) / 2
}

func medianOf(all []time.Duration) cell {
	var values []float64
	for _, d := range all {
		values = append(values, d.Seconds())
	}
	return cell{value: median(values), unit: seconds}
}

// machine is what the figures were taken on, and of what.
func (l *lab) machine() string {
	versions := l.host.Run(l, `. /etc/os-release; echo "$PRETTY_NAME"
trued version
dpkg-query -W -f '${Package} ${Version}\n' cfengine3 puppet-agent ansible-core dpkg systemd`)
	cpu, err := exec.Command("sh", "-c", `sed -n 's/^model name\s*: //p' /proc/cpuinfo | sort | uniq -c | sed 's/^ *//; s/ / × /'
echo "Linux $(uname -r), $(awk '/MemTotal/ {printf "%.0f", $2/1048576}' /proc/meminfo) GB, $(findmnt -no FSTYPE -T /var/tmp)"`).Output()
	if err != nil {
		l.Fatal(err)
	}
	lines := append(strings.Split(strings.TrimSpace(string(cpu)), "\n"), strings.Split(versions, "\n")...)
	return time.Now().UTC().Format("2006-01-02 15:04 MST") + " · " + strings.Join(lines, " · ")
}

// load says how busy the machine was with other things, or with this.
func (l *lab) load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		l.Fatal(err)
	}
	return fmt.Sprintf("\nLoad of the machine at the end, over 1, 5 and 15 minutes: %s.\n", strings.Join(strings.Fields(string(text))[:3], ", "))
}
