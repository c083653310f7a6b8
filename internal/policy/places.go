package policy

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// launchers are places whose files others run, or take what to run from, as root.
// What is written there is a run, whichever kind writes it.
func launchers() []string {
	return []string{
		// what runs by the clock, at a boot, or when something happens
		"/etc/crontab", "/etc/anacrontab", "/etc/cron.d", "/etc/cron.hourly", "/etc/cron.daily", "/etc/cron.weekly",
		"/etc/cron.monthly", "/var/spool/cron", "/etc/incron.d", "/etc/init.d", "/etc/inittab", "/etc/rc.local", "/etc/default",
		"/etc/rc0.d", "/etc/rc1.d", "/etc/rc2.d", "/etc/rc3.d", "/etc/rc4.d", "/etc/rc5.d", "/etc/rc6.d", "/etc/rcS.d",
		"/etc/udev", "/run/udev", "/etc/tmpfiles.d", "/run/tmpfiles.d", "/etc/sysusers.d", "/run/sysusers.d",
		"/etc/binfmt.d", "/run/binfmt.d", "/etc/sysctl.conf", "/etc/sysctl.d", "/run/sysctl.d",
		"/etc/modprobe.d", "/run/modprobe.d", "/etc/modules", "/etc/modules-load.d", "/run/modules-load.d",
		"/etc/network", "/etc/NetworkManager", "/etc/networkd-dispatcher", "/etc/dhcp", "/etc/ppp", "/etc/acpi",
		"/etc/logrotate.conf", "/etc/logrotate.d", "/etc/kernel", "/etc/initramfs-tools", "/etc/dracut.conf.d", "/etc/grub.d",
		"/boot", "/etc/fstab", "/etc/exports", "/etc/auto.master", "/etc/auto.master.d", "/etc/crypttab", "/etc/mdadm", "/etc/lvm",
		"/var/spool/at", "/etc/update-motd.d", "/etc/needrestart", "/etc/rsyslog.conf", "/etc/rsyslog.d", "/etc/hosts.allow", "/etc/hosts.deny",
		"/etc/aliases", "/etc/postfix", "/etc/exim4", "/etc/resolvconf", "/etc/wireguard", "/etc/openvpn", "/etc/letsencrypt", "/etc/cloud",
		"/etc/docker", "/etc/containers", "/etc/libvirt", "/etc/audit", "/etc/xdg", "/etc/X11",
		// who may become root, and who decides that
		"/etc/passwd", "/etc/shells", "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/nsswitch.conf", "/etc/sudoers", "/etc/sudoers.d",
		"/etc/subuid", "/etc/subgid", "/etc/login.defs", "/etc/sssd", "/etc/krb5.conf", "/etc/selinux", "/etc/apparmor", "/etc/apparmor.d",
		"/etc/sudo.conf", "/etc/doas.conf", "/etc/pam.conf", "/etc/pam.d", "/etc/security", "/etc/polkit-1", "/etc/dbus-1",
		"/etc/ssh", "/root", "/etc/trued", "/var/lib/trued", "/run/trued",
		// what programs are made of, and where they come from
		"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/usr", "/etc/alternatives",
		"/etc/ld.so.preload", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/environment", "/etc/environment.d",
		"/etc/perl", "/etc/python3", "/etc/ssl/openssl.cnf", "/etc/skel", "/etc/inputrc", "/etc/vim",
		"/etc/profile", "/etc/profile.d", "/etc/bash.bashrc", "/etc/bashrc", "/etc/zsh", "/etc/gitconfig",
		"/etc/apt", "/etc/dpkg", "/var/lib/dpkg", "/etc/dnf", "/etc/yum", "/etc/yum.conf", "/etc/yum.repos.d", "/etc/rpm",
		"/etc/pki", "/etc/ca-certificates", "/etc/ca-certificates.conf", "/etc/ssl/certs", "/etc/zypp", "/etc/pacman.conf", "/etc/pacman.d",
		// the kernel's own doors
		"/proc", "/sys", "/dev",
	}
}

// harmless are places within those that nobody runs anything from.
func harmless() []string {
	return []string{
		"/usr/share/doc", "/usr/share/man", "/usr/local/share/doc", "/usr/local/share/man",
		"/usr/src", "/usr/local/src", "/dev/shm", "/etc/default/locale",
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
	return strings.Contains(name, "/systemd") && (below(name, "/etc/systemd") || below(name, "/run/systemd") ||
		strings.Contains(name, "/systemd/system") || strings.Contains(name, "/systemd/user"))
}

// standing reports whether a path is where systemd itself looks for a unit, so that
// whoever writes it is judged for that. What is at a path that only looks like one
// is whatever its owner likes, and what is for the system says nothing of what it is
// in a user's own manager.
func standing(name string, ofUser bool) bool {
	dir := "/system"
	if ofUser {
		dir = "/user"
	}
	name = path.Clean(name)
	return slices.ContainsFunc(unitHomes(), func(home string) bool { return below(name, home+dir) })
}

// launches reports whether what is at a path is run, or says what is.
func launches(name string) bool {
	return ofSystemd(name) || strings.Contains(name, "/.ssh/") || strings.HasSuffix(name, "/.ssh") || listed(name)
}

// listed reports whether a path is in one of the launchers.
func listed(name string) bool {
	top, _, _ := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	switch top { // where teams have thousands of files, nothing is listed
	case "srv", "opt", "home", "tmp", "mnt", "media", "data":
		return false
	}
	at := func(dir string) bool { return below(name, dir) }
	return slices.ContainsFunc(launchers(), at) && !slices.ContainsFunc(harmless(), at)
}

// placed puts directories in for the specifiers of systemd that stand for them. It
// is told where that is if the others have no slash in them, and cannot make the path
// that of a launcher, or lead out of a directory.
func placed(word string) (at string, told bool) {
	const percent = "\x00" // which is in no path
	word = strings.NewReplacer("%%", percent, "%t", "/run", "%S", "/var/lib", "%C", "/var/cache", "%L", "/var/log", "%E", "/etc",
		"%T", "/tmp", "%V", "/var/tmp", "%h", "/root").Replace(word)
	at = strings.ReplaceAll(word, percent, "%")
	before, _, unknown := strings.Cut(word, "%")
	if !unknown {
		return at, true
	}
	parts := strings.Split(word, "/")
	for i, part := range parts {
		if !strings.Contains(part, "%") {
			continue
		}
		rest := regexp.MustCompile(`%[inpNjbmHlvaAoBMwWuUgG]`).ReplaceAllString(part, "")
		if strings.Contains(rest, "%") || i < len(parts)-1 && strings.Trim(rest, ".") == "" {
			return at, false
		}
	}
	return at, !strings.HasPrefix(word, "/") || !slices.ContainsFunc(append(unitHomes(), launchers()...), func(launcher string) bool {
		return strings.HasPrefix(launcher, before)
	})
}

// holdsLauncher reports whether something that is run is below a path.
func holdsLauncher(name string) bool {
	return slices.ContainsFunc(append(unitHomes(), launchers()...), func(at string) bool { return below(at, name) })
}

// A unitFile is what a path means to systemd, where it has a unit there.
type unitFile struct {
	// unit is the name, or what follows the dash or is the type alone.
	unit   string
	dropIn bool
	// ofUser is true where it is one of any user's own manager.
	ofUser bool
}

// unitAt tells which unit a path says something of. In other directories of
// systemd there are programs, and its own configuration.
func unitAt(name string) (unitFile, bool) {
	parts := strings.Split(name, "/")
	i := slices.Index(parts, "systemd")
	if i < 0 || len(parts) < i+3 {
		return unitFile{}, false
	}
	dir, rest := parts[i+1], parts[i+2:]
	u := unitFile{ofUser: dir == "user"}
	switch {
	case dir != "system" && dir != "user":
	case len(rest) == 1:
		u.unit = rest[0]
	case len(rest) == 2 && strings.HasSuffix(rest[0], ".d"):
		u.unit, u.dropIn = strings.TrimSuffix(rest[0], ".d"), true
	case len(rest) == 2 && slices.Contains([]string{".wants", ".requires", ".upholds"}, path.Ext(rest[0])):
		u.unit = rest[1]
	}
	return u, u.unit != ""
}

// section is the one in which a unit says what it runs, and as whom.
func (u unitFile) section() string {
	switch kind := u.unit[strings.LastIndexByte(u.unit, '.')+1:]; kind {
	case "service":
		return "Service"
	case "socket":
		return "Socket"
	}
	return ""
}
