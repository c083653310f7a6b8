package policy

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"trued.dev/trued/internal/host/units"
	"trued.dev/trued/internal/resource"
)

// stated is a run as a resource says it.
func stated(p resource.Program) Run {
	r := Run{By: p.By, Argv: p.Argv, Shell: p.Shell, User: p.User, Line: p.Shell}
	if len(p.Argv) > 0 {
		r.Program, r.Line = p.Argv[0], strings.Join(p.Argv, " ")
	}
	return r
}

// launchers are places whose files others run, or take what to run from, as root.
// What is written there is a run, whichever kind writes it.
func launchers() []string {
	return []string{
		"/etc/crontab", "/etc/anacrontab", "/etc/cron.d", "/etc/cron.hourly", "/etc/cron.daily", "/etc/cron.weekly",
		"/etc/cron.monthly", "/var/spool/cron", "/etc/init.d", "/etc/rc.local", "/etc/ld.so.preload",
		"/etc/sudoers", "/etc/sudoers.d", "/etc/pam.d", "/etc/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d", "/run/udev/rules.d",
		"/etc/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d", "/run/modprobe.d",
		"/etc/apt/apt.conf", "/etc/apt/apt.conf.d", "/etc/dpkg/dpkg.cfg.d", "/etc/logrotate.conf", "/etc/logrotate.d",
		"/etc/profile", "/etc/profile.d", "/etc/bash.bashrc", "/etc/tmpfiles.d", "/root",
	}
}

// unitHomes are the directories in which systemd has its units, and its
// generators.
func unitHomes() []string {
	return []string{
		"/etc/systemd", "/run/systemd", "/usr/lib/systemd", "/lib/systemd", "/usr/local/lib/systemd", "/etc/xdg/systemd",
	}
}

// ofSystemd reports whether a path is where systemd, that of a user included,
// looks for units or programs.
func ofSystemd(name string) bool {
	return strings.Contains(name+"/", "/systemd/system") || strings.Contains(name+"/", "/systemd/user")
}

// launches reports whether what is at a path is run, or says what is.
func launches(name string) bool {
	return ofSystemd(name) || slices.ContainsFunc(launchers(), func(at string) bool { return below(name, at) })
}

// launch adds what a write has run, by any of its names.
func (n *Names) launch(w resource.Write, names []string) {
	if w.Absent || w.Stated || w.Directory && !w.Tree {
		return
	}
	for _, name := range names {
		switch {
		case ofSystemd(name):
			n.ofUnit(w, name)
			return
		case launches(name):
			n.ofLauncher(w, name)
			return
		case w.Tree && slices.ContainsFunc(append(unitHomes(), launchers()...), func(at string) bool { return below(at, name) }):
			n.opaque("what is below "+name, "")
			return
		}
	}
}

func (n *Names) opaque(by, user string) {
	n.Runs = append(n.Runs, Run{By: by, User: orRoot(user), Opaque: true})
}

const maxText = 1 << 20

// text returns what a write puts into a file, if that can be told.
func text(w resource.Write) (string, bool) {
	if w.Content == nil || w.Content.Size < 0 || w.Content.Size > maxText {
		return "", false
	}
	r, err := w.Content.Open()
	if err != nil {
		return "", false
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxText+1))
	return string(data), err == nil && len(data) <= maxText
}

// ofUnit adds what a unit file or drop-in runs and sets.
func (n *Names) ofUnit(w resource.Write, name string) {
	if w.Target == "/dev/null" || w.Target != "" && ofSystemd(w.Target) {
		return // it is masked, or a unit that is there by its own right
	}
	data, ok := text(w)
	if !ok {
		n.opaque("the unit file "+name, "")
		return
	}
	settings, whole := units.Settings(data)
	dropIn := strings.HasSuffix(path.Dir(name), ".d")
	user, raised := "", false
	for _, s := range settings {
		n.Settings = append(n.Settings, s.Section+"."+s.Key+"="+s.Value)
		if s.Key == "User" {
			user = s.Value
		}
		raised = raised || raises(s) || dropIn && alters(s)
	}
	if raised {
		user = root
	}
	for _, s := range settings {
		if strings.HasPrefix(s.Key, "Exec") && s.Value != "" {
			n.exec(name, s.Key, s.Value, user)
		}
	}
	if raised && dropIn || strings.HasSuffix(name, ".mount") || strings.HasSuffix(name, ".swap") {
		n.opaque("the unit of "+name, "")
	}
	if !whole {
		n.opaque("a line of "+name+" that cannot be read", "")
	}
}

// raises reports whether a setting gives a unit more than its user has: with it,
// the unit's programs count as root's.
func raises(s units.Setting) bool {
	switch s.Key {
	case "Group", "SupplementaryGroups", "AmbientCapabilities", "PAMName", "PermissionsStartOnly",
		"RootDirectory", "RootImage", "BindPaths", "BindReadOnlyPaths":
		return s.Value != ""
	case "StandardInput", "StandardOutput", "StandardError":
		return strings.Contains(s.Value, ":")
	}
	return false
}

// alters reports whether a setting of a drop-in makes the programs of the unit,
// whatever they are, others.
func alters(s units.Setting) bool {
	return slices.Contains([]string{"User", "DynamicUser", "Environment", "EnvironmentFile", "PassEnvironment", "WorkingDirectory"}, s.Key)
}

// exec adds what one Exec line runs. A user that is a specifier, or somebody whom
// systemd makes up, is not the name that it looks like.
func (n *Names) exec(name, key, value, user string) {
	by := fmt.Sprintf("%s of %s", key, path.Base(name))
	if in := path.Base(path.Dir(name)); strings.HasSuffix(in, ".d") {
		by = fmt.Sprintf("%s of %s/%s", key, in, path.Base(name))
	}
	commands, ok := splitExec(value)
	for _, c := range commands {
		run := Run{By: by, Argv: c.argv, Line: c.line, User: orRoot(user)}
		if c.privileged {
			run.User = root
		}
		if len(c.argv) > 0 {
			run.Program = c.argv[0]
		}
		n.Runs = append(n.Runs, run)
	}
	if !ok {
		n.Runs = append(n.Runs, Run{By: by, Line: value, User: orRoot(user), Opaque: true})
	}
}

// An execCommand is one program of an Exec line.
type execCommand struct {
	argv []string
	line string
	// privileged is true where the line lifts the limits of its unit.
	privileged bool
}

// splitExec splits an Exec line into its commands. What it does not understand as
// systemd does for certain, such as escapes, it gives up.
func splitExec(value string) (list []execCommand, ok bool) {
	if strings.ContainsAny(value, "\\\x00") {
		return nil, false
	}
	words, ok := splitWords(value)
	if !ok {
		return nil, false
	}
	for len(words) > 0 {
		end := slices.Index(words, ";")
		if end < 0 {
			end = len(words)
		}
		argv := slices.Clone(words[:end])
		words = words[min(end+1, len(words)):]
		if len(argv) == 0 {
			continue
		}
		program := strings.TrimLeft(argv[0], "@-:+!|")
		prefix := argv[0][:len(argv[0])-len(program)]
		if program == "" || strings.Contains(prefix, "@") {
			return nil, false // the second word is what the program is called
		}
		argv[0] = program
		list = append(list, execCommand{argv, strings.Join(argv, " "), strings.ContainsAny(prefix, "+!")})
	}
	return list, len(list) > 0
}

// splitWords splits at white space; quotes keep it.
func splitWords(s string) (words []string, ok bool) {
	var word strings.Builder
	var quote rune
	in := false
	for _, c := range s {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '"' || c == '\'':
			quote, in = c, true
		case strings.ContainsRune(" \t\r\n", c):
			if in {
				words = append(words, word.String())
			}
			word.Reset()
			in = false
		default:
			word.WriteRune(c)
			in = true
		}
	}
	if in {
		words = append(words, word.String())
	}
	return words, quote == 0
}

// ofLauncher adds what is run by a file at one of the places that others run.
func (n *Names) ofLauncher(w resource.Write, name string) {
	dir := path.Dir(name)
	switch {
	case strings.HasPrefix(dir, "/etc/cron.") && dir != "/etc/cron.d":
		n.Runs = append(n.Runs, Run{By: "cron", Argv: []string{name}, Line: name, Program: name, User: root})
	case name == "/etc/crontab" || dir == "/etc/cron.d":
		data, ok := text(w)
		if !ok || !n.crontab(name, data) {
			n.opaque("the table "+name, "")
		}
	default:
		n.opaque(name, "")
	}
}

// crontab adds what the lines of a table run, and reports whether all of them
// were understood.
func (n *Names) crontab(name, data string) bool {
	by := "cron by " + path.Base(name)
	for line := range strings.SplitSeq(data, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		times := 5
		if line[0] == '@' {
			times = 1
		}
		fields := strings.Fields(line)
		if len(fields) < times+2 {
			if !strings.Contains(line, "=") {
				return false
			}
			n.Settings = append(n.Settings, "cron."+line)
			continue
		}
		if line[0] != '@' && !strings.ContainsAny(line[:1], "*0123456789") {
			if strings.Contains(fields[0], "=") || strings.HasPrefix(fields[1], "=") {
				n.Settings = append(n.Settings, "cron."+line)
				continue
			}
			return false
		}
		command := line
		for range times + 1 {
			command = strings.TrimLeft(command[len(strings.Fields(command)[0]):], " \t")
		}
		n.Runs = append(n.Runs, Run{By: by, Shell: command, Line: command, User: fields[times]})
	}
	return true
}
