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
	r := Run{By: p.By, Argv: p.Argv, Shell: p.Shell, User: p.User, Line: p.Shell, With: p.With}
	if len(p.Argv) > 0 {
		r.Program, r.Line = p.Argv[0], strings.Join(p.Argv, " ")
	}
	if p.Reads != "" {
		return Run{By: p.By, Line: p.Reads, User: root, Opaque: true}
	}
	r.Opaque = len(p.Argv) == 0 && p.Shell == ""
	return r.plainly()
}

// plainly makes a run opaque of which the program is not where its name seems to
// say: by way of "..", or by what somebody else puts in later.
func (r Run) plainly() Run {
	if slices.Contains(strings.Split(r.Program, "/"), "..") || strings.ContainsAny(r.Program, "%$") {
		return Run{By: r.By, Line: r.Line, User: r.User, Opaque: true, With: r.With}
	}
	return r
}

// launch adds what a write has run, by any of its names, and returns what else it
// has written.
func (n *Names) launch(w resource.Write, names []string) []resource.Write {
	if w.Absent {
		return nil
	}
	if w.Directory && !w.Tree {
		// Who may write to a directory puts into it what he likes.
		if i := slices.IndexFunc(names, func(name string) bool { return launches(name) || holdsLauncher(name) }); i >= 0 && n.lends(w) {
			n.opaque("what others put into "+names[i], "")
		}
		return nil
	}
	for _, name := range names {
		switch {
		case w.Stated && (ofSystemd(name) || !listed(name)):
		case launches(name) && n.lends(w):
			n.opaque(name+", which others may change", "")
			return nil
		case ofSystemd(name):
			return n.ofUnit(w, name)
		case launches(name):
			n.ofLauncher(w, name)
			return nil
		case w.Tree && holdsLauncher(name):
			n.opaque("what is below "+name, "")
			return nil
		}
	}
	return nil
}

// lends reports whether a write lets somebody but root change what is written.
func (n *Names) lends(w resource.Write) bool {
	owner, group := w.Owner, w.Group
	if last := len(n.Writes) - 1; last >= 0 {
		owner, group = n.Writes[last].Owner, n.Writes[last].Group
	}
	const byGroup, byOthers = 0o020, 0o002
	bits := w.Mode.Bits()
	ofRoot := func(account string) bool { return account == "" || account == root || account == "0" }
	return !ofRoot(owner) || bits&byOthers != 0 || !ofRoot(group) && (bits&byGroup != 0 || w.Directory && !w.Mode.IsSet())
}

// mighty are groups whose members can become root, or read and write what root can.
func mighty() []string {
	return []string{
		root, "sudo", "wheel", "admin", "docker", "podman", "lxd", "incus-admin", "libvirt", "disk", "shadow", "kmem", "sys", "staff",
	}
}

// join adds what it comes to that somebody gets into a group, or that an account
// is changed, which may do all.
func (n *Names) join() {
	if len(n.Groups) > 0 {
		all := mighty()
		for _, g := range n.Groups {
			if slices.Contains(all, g) {
				n.opaque("the group "+g, "")
			}
		}
	}
	if slices.Contains(n.Users, root) {
		n.opaque("the user root", "")
	}
}

func (n *Names) opaque(by, user string) {
	n.Runs = append(n.Runs, Run{By: by, User: orRoot(user), Opaque: true})
}

// leads returns where the target of a link leads, if it is one.
func leads(target, name string) string {
	if target == "" || path.IsAbs(target) {
		return target
	}
	return path.Join(path.Dir(name), target)
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

// ofUnit adds what a unit file or drop-in runs and sets, and returns the
// directories and files that systemd makes for it.
func (n *Names) ofUnit(w resource.Write, name string) []resource.Write {
	if w.Target == "/dev/null" {
		return nil // it is masked
	}
	unit, known := unitAt(name)
	if at := leads(w.Target, name); at != "" && known && standing(at, unit.ofUser) {
		if n.Units = include(n.Units, path.Base(at)); ends(unit.unit) {
			n.Units = include(n.Units, unit.unit) // what is wanted goes by the link's name
		}
		return nil // another name of a unit that is there by its own right
	}
	data, ok := text(w)
	if !ok || !known {
		n.opaque("the file "+name+" of systemd", "")
		return nil
	}
	settings, whole := units.Settings(data)
	user, raised := "", unit.ofUser
	var made []resource.Write
	for _, s := range settings {
		n.Settings = append(n.Settings, s.Section+"."+s.Key+"="+s.Value)
		if s.Key == "User" && s.Section == unit.section() {
			user = s.Value
		}
		raised = raised || raises(s) || unit.dropIn && alters(s)
	}
	for _, s := range settings {
		made = append(made, makes(s, user)...)
		n.reach(s, name)
	}
	if raised {
		user = root
	}
	first := len(n.Runs)
	for _, s := range settings {
		if strings.HasPrefix(s.Key, "Exec") && s.Key != "ExecSearchPath" && s.Value != "" {
			n.exec(name, s.Key, s.Value, user)
		}
	}
	for i := first; i < len(n.Runs); i++ {
		n.Runs[i].With = given(settings)
	}
	if raised && unit.dropIn || len(n.Runs) == first && slices.ContainsFunc(settings, ofHost) || slices.Contains([]string{".mount", ".swap", ".automount"}, path.Ext(unit.unit)) {
		n.opaque("the unit of "+name, "")
	}
	if !whole {
		n.opaque("a line of "+name+" that cannot be read", "")
	}
	return made
}

// raises reports whether a setting gives a unit more than its user has: with it,
// the unit's programs count as root's.
func raises(s units.Setting) bool {
	switch s.Key {
	case "Group", "SupplementaryGroups", "AmbientCapabilities", "PAMName", "PermissionsStartOnly",
		"RootDirectory", "RootImage", "BindPaths", "BindReadOnlyPaths", "MountImages", "ExtensionImages", "ExtensionDirectories",
		"NetworkNamespacePath", "IPCNamespacePath", "TTYPath", "SELinuxContext", "AppArmorProfile", "SmackProcessLabel",
		// what root reads and hands over
		"EnvironmentFile", "LoadCredential", "LoadCredentialEncrypted", "ImportCredential", "OpenFile":
		return s.Value != ""
	case "StandardInput", "StandardOutput", "StandardError":
		return strings.Contains(s.Value, ":")
	}
	return ofHost(s) || homeOf(s.Key) != "" && (strings.ContainsAny(s.Value, "%\\") || quotesWithin(s.Value))
}

// quotesWithin reports whether there are quotes elsewhere than around a word, which
// systemd takes away wherever they are.
func quotesWithin(value string) bool {
	for word := range strings.FieldsSeq(value) {
		if strings.ContainsAny(strings.Trim(word, `"'`), `"'`) {
			return true
		}
	}
	return false
}

// given is what a unit gives its programs that may make something else of them.
func given(settings []units.Setting) []string {
	var with []string
	for _, s := range settings {
		switch s.Key {
		case "Environment", "EnvironmentFile", "PassEnvironment":
			with = append(with, "env "+s.Key+"="+s.Value)
		case "WorkingDirectory":
			with = append(with, "cwd "+s.Value)
		case "StandardInput":
			if !slices.Contains([]string{"", "null", "tty"}, s.Value) {
				with = append(with, "stdin")
			}
		case "StandardInputText", "StandardInputData":
			with = append(with, "stdin")
		case "ExecSearchPath", "RootDirectory", "RootImage", "BindPaths", "BindReadOnlyPaths", "MountImages", "ExtensionImages",
			"ExtensionDirectories", "OpenFile", "LoadCredential", "LoadCredentialEncrypted", "ImportCredential",
			"SetCredential", "SetCredentialEncrypted":
			with = append(with, "root "+s.Key+"="+s.Value)
		}
	}
	return with
}

// alters reports whether a setting of a drop-in makes the programs of the unit,
// whatever they are, others.
func alters(s units.Setting) bool {
	return slices.Contains([]string{"User", "DynamicUser", "Environment", "EnvironmentFile", "PassEnvironment", "WorkingDirectory"}, s.Key) ||
		homeOf(s.Key) != "" // given to a user that is written elsewhere
}

// homeOf is where systemd makes the directories of a setting, and gives them, with
// all that is in them, to the unit's user.
func homeOf(key string) string {
	return map[string]string{
		"StateDirectory": "/var/lib", "RuntimeDirectory": "/run", "CacheDirectory": "/var/cache", "LogsDirectory": "/var/log",
		"ConfigurationDirectory": "/etc",
	}[key]
}

// makes is what systemd writes because of a setting.
func makes(s units.Setting, user string) []resource.Write {
	var writes []resource.Write
	switch home := homeOf(s.Key); {
	case home != "":
		if s.Key == "ConfigurationDirectory" {
			user = "" // that stays root's
		}
		for word := range strings.FieldsSeq(s.Value) {
			word = strings.Trim(word, `"'`)
			for part := range strings.SplitSeq(word, ":") {
				writes = append(writes, resource.Write{
					Path: path.Join(home, path.Join("/", part)), Owner: user, Directory: true, Tree: user != "",
				})
			}
		}
	case s.Section == "Socket" && (strings.HasPrefix(s.Key, "Listen") || s.Key == "Symlinks"),
		s.Section == "Path" && s.Value != "":
		for word := range strings.FieldsSeq(s.Value) {
			word, told := placed(strings.Trim(word, `"'`))
			switch {
			case !told:
				writes = append(writes, resource.Write{Path: "/", Tree: true})
			case strings.HasPrefix(word, "/"):
				writes = append(writes, resource.Write{Path: path.Clean(word)})
			}
		}
	}
	return writes
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
		n.Runs = append(n.Runs, run.plainly())
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
	first := len(n.Runs)
	var with []string
	defer func() {
		for i := first; i < len(n.Runs); i++ {
			n.Runs[i].With = with
		}
	}()
	for line := range strings.SplitSeq(data, "\n") {
		line = strings.Trim(line, " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		if strings.ContainsFunc(line, func(c rune) bool { return c != '\t' && (c < ' ' || c > '~') }) {
			return false // what cron takes for a space is not what others do
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
			n.Settings, with = append(n.Settings, "cron."+line), append(with, "env "+line)
			continue
		}
		if line[0] != '@' && !strings.ContainsAny(line[:1], "*0123456789") {
			if strings.Contains(fields[0], "=") || strings.HasPrefix(fields[1], "=") {
				n.Settings, with = append(n.Settings, "cron."+line), append(with, "env "+line)
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
