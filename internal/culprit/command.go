package culprit

import (
	"bytes"
	"path"
	"slices"
	"strings"
	"time"
)

// The service manager does what it is asked to and does not say who asked. Root's
// systemctl talks to it over a socket of their own, where nobody listens in; so
// each start of systemctl is looked at. What others ask for goes over the system
// bus: see bus.go.

// systemctl are the places of the program.
var systemctl = []string{"/usr/bin/systemctl", "/bin/systemctl"}

// A request is what somebody asked the service manager for.
type request struct {
	what  string
	units []string
}

const (
	// A program is told of when it is about to be started; until it is, its
	// process still is another.
	startTries = 40
	startPause = 500 * time.Microsecond
	// longestCommand is how much of a command line is read.
	longestCommand = 16 << 10
)

// commandOf waits until a process has become systemctl, and returns what it was
// told to ask for. Nothing else of its command line is kept.
func commandOf(pid int) (process, request, bool) {
	for range startTries {
		if path.Base(executable(pid)) != "systemctl" {
			time.Sleep(startPause)
			continue
		}
		buf := make([]byte, longestCommand)
		n := readProc(pid, "cmdline", buf)
		if n == 0 {
			continue
		}
		r, ok := parseSystemctl(buf[:n])
		if !ok {
			return process{}, r, false
		}
		return look(pid), r, true
	}
	return process{}, request{}, false
}

// parseSystemctl reads a command line of systemctl, as /proc has it. It is
// nothing of interest where it changes no unit of this system.
func parseSystemctl(cmdline []byte) (request, bool) {
	var words []string
	for word := range bytes.SplitSeq(bytes.TrimSuffix(cmdline, []byte{0}), []byte{0}) {
		words = append(words, string(word))
	}
	if path.Base(words[0]) != "systemctl" {
		return request{}, false
	}
	words = words[1:]
	for _, w := range words {
		option, _, _ := strings.Cut(w, "=")
		switch option {
		case "--user", "--global", "--root", "--image", "--host", "-H", "--machine", "-M":
			return request{}, false
		}
	}
	// The values of options come before it or look unlike it.
	at := slices.IndexFunc(words, func(w string) bool { return done(w) != "" })
	if at < 0 {
		return request{}, false
	}
	r := request{what: done(words[at])}
	for _, w := range words[at+1:] {
		if !strings.HasPrefix(w, "-") && len(r.units) < mostUnits {
			r.units = append(r.units, unitName(w))
		}
	}
	return r, len(r.units) > 0
}

const (
	mostUnits    = 64
	longestUnit  = 255
	usualUnitExt = ".service"
)

// unitName completes a name as systemctl does.
func unitName(name string) string {
	name = name[strings.LastIndex(name, "/")+1:] // disable and mask take paths, too
	switch path.Ext(name) {
	case ".service", ".socket", ".device", ".mount", ".automount", ".swap", ".target", ".path", ".timer", ".slice", ".scope":
	default:
		name += usualUnitExt
	}
	return name[:min(len(name), longestUnit)]
}

// done says what a command of systemctl does, as something that was done; empty
// for one that changes no unit.
func done(command string) string {
	switch command {
	case "start", "restart", "reload", "mask", "unmask", "link", "edit", "revert", "preset", "kill":
		return command + "ed"
	case "enable", "disable":
		return command + "d"
	case "stop":
		return "stopped"
	case "freeze":
		return "frozen"
	case "thaw":
		return "thawed"
	case "try-restart", "condrestart", "reload-or-restart", "try-reload-or-restart", "force-reload":
		return "restarted"
	case "reenable":
		return "enabled"
	case "set-property", "add-wants", "add-requires", "clean":
		return "changed"
	}
	return ""
}
