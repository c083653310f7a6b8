package policy

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"trued.dev/trued/internal/host/units"
)

// reach adds the other units that a setting of a unit file is about. One of which
// the name cannot be told is there as it is written, and is opaque as well.
func (n *Names) reach(s units.Setting, file string) {
	all, some := others(s), starts(s)
	if !all && !some {
		return
	}
	words, ok := splitWords(s.Value)
	unclear := !ok
	for _, unit := range strings.Fields(strings.Join(words, " ")) {
		switch {
		case all && (s.Key != "Conflicts" || !atShutdown(unit)):
			n.Units = include(n.Units, unit)
			unclear = unclear || veiled(unit)
		case some && ends(unit):
			n.Units = include(n.Units, unit)
			unclear = unclear || pattern(unit) != unit
		}
	}
	if unclear {
		n.opaque("the unit in "+s.Key+"= of "+file, "")
	}
}

// others reports whether a setting names other units, which then are what this
// one says, are enabled with it, are stopped for it or with it, or share with it
// what is theirs.
func others(s units.Setting) bool {
	switch s.Section {
	case "Install":
		return s.Key == "Alias" || s.Key == "Also" || s.Key == "RequiredBy"
	case "Unit":
		return slices.Contains([]string{"Conflicts", "PropagatesStopTo", "PropagatesReloadTo", "JoinsNamespaceOf"}, s.Key)
	case "Timer", "Path":
		return s.Key == "Unit"
	case "Socket":
		return s.Key == "Service"
	case "Service":
		return s.Key == "Sockets"
	}
	return false
}

// atShutdown reports whether a unit is one with which all others are in conflict,
// so that they are stopped when the host goes down.
func atShutdown(unit string) bool { return unit == "shutdown.target" || unit == "umount.target" }

// starts reports whether a setting names other units that are started for this one.
func starts(s units.Setting) bool {
	return s.Section == "Unit" && slices.Contains([]string{"Wants", "Requires", "BindsTo", "Upholds", "OnFailure", "OnSuccess"}, s.Key)
}

// ends reports whether a unit is, or may be, one whose start is the end of others:
// the host goes down by it, or comes to where an operator sits.
func ends(unit string) bool {
	if name, isTarget := strings.CutSuffix(unit, ".target"); isTarget && strings.HasPrefix(name, "runlevel") {
		return true
	}
	like := pattern(unit)
	return slices.ContainsFunc([]string{
		"poweroff.target", "reboot.target", "halt.target", "kexec.target", "soft-reboot.target", "exit.target", "shutdown.target",
		"final.target", "umount.target", "ctrl-alt-del.target", "rescue.target", "emergency.target",
		"sleep.target", "suspend.target", "hibernate.target", "hybrid-sleep.target", "suspend-then-hibernate.target", "runlevel0.target",
		"systemd-poweroff.service", "systemd-reboot.service", "systemd-halt.service", "systemd-kexec.service", "systemd-soft-reboot.service",
		"systemd-exit.service", "systemd-suspend.service", "systemd-hibernate.service", "systemd-hybrid-sleep.service",
		"systemd-suspend-then-hibernate.service", "rescue.service", "emergency.service", "debug-shell.service",
	}, func(end string) bool {
		is, err := path.Match(like, end)
		return is || err != nil
	})
}

// pattern is a glob of what a unit's name may come to: what a specifier or an escape
// stands for is known to systemd alone.
func pattern(unit string) string {
	if !strings.ContainsAny(unit, `%\`) {
		return unit
	}
	return regexp.MustCompile(`%.?|\\(x[0-9A-Fa-f]{2}|.)?`).ReplaceAllString(unit, "*")
}

// veiled reports whether a name may be that of a unit, or of a template, of which
// it says nothing. A dash that is escaped, as in the name of a path, is no more than
// that.
func veiled(unit string) bool {
	template, _, _ := strings.Cut(unit, "@")
	return strings.ContainsAny(strings.ReplaceAll(template, `\x2d`, ""), `%\`)
}

// ofHost reports whether a setting lets a unit do something to the whole host, or
// to all that is to be started.
func ofHost(s units.Setting) bool {
	switch s.Key {
	case "FailureAction", "SuccessAction", "StartLimitAction", "JobTimeoutAction":
		return s.Value != "" && s.Value != "none"
	case "OnFailureJobMode", "OnSuccessJobMode":
		return !slices.Contains([]string{"", "fail", "replace"}, s.Value)
	case "OnFailureIsolate": // what it was called before
		return !slices.Contains([]string{"", "no", "n", "false", "f", "off", "0"}, strings.ToLower(s.Value))
	}
	return false
}
