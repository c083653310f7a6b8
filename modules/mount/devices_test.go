package mount

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"trued.dev/trued/internal/host/hosttest"
)

// apartVar is set for the copy of this program that has a mount namespace of its own.
const apartVar = "TRUED_TEST_APART"

// TestOnRealDevices mounts file systems of loop devices, and swaps. A container
// may do neither, so it is this machine, in a mount namespace with an /etc and a
// /dev that nobody else sees.
func TestOnRealDevices(t *testing.T) {
	if loop, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0); err != nil {
		t.Skipf("needs loop devices: %v", err)
	} else {
		loop.Close()
	}
	if os.Getenv(apartVar) == "" {
		cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--propagation", "private", os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), apartVar+"="+t.TempDir())
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()+" ") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	dir := os.Getenv(apartVar)
	run(t, "mkdir "+dir+"/etc "+dir+"/dev; mount -t tmpfs x "+dir+"/dev; mkdir "+dir+"/dev/{etc,dev}-{upper,work}")
	for _, name := range []string{"etc", "dev"} {
		run(t, strings.NewReplacer("DIR", dir+"/dev/"+name, "NAME", name).Replace("mount -t overlay x -o lowerdir=/NAME,upperdir=DIR-upper,workdir=DIR-work /NAME"))
	}
	run(t, "echo '# a comment of people' >/etc/fstab; mkdir -p /dev/disk/by-uuid /dev/disk/by-label")
	t.Run("a file system by its names", func(t *testing.T) { byNames(t, dir) })
	t.Run("a device that a boot gave another name", func(t *testing.T) { renamed(t, dir) })
	t.Run("swap", func(t *testing.T) { swapsTruly(t, dir) })
}

// run is sh for what must go well.
func run(t testing.TB, line string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "bash", "-ec", line).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
	return strings.TrimSpace(string(out))
}

// device makes a loop device of a file that holds what a program makes of it, and
// gives it the names that udev would.
func device(t *testing.T, file, format string) (name, uuid string) {
	t.Helper()
	run(t, "truncate -s 16M "+file+"; "+format+" "+file)
	name = run(t, "losetup --find --show "+file)
	t.Cleanup(func() { _ = exec.Command("losetup", "-d", name).Run() })
	uuid = run(t, "blkid -p -o value -s UUID "+name)
	run(t, "ln -s "+name+" /dev/disk/by-uuid/"+uuid)
	return name, uuid
}

func byNames(t *testing.T, dir string) {
	l := newLab(t)
	one, uuid := device(t, filepath.Join(dir, "one.img"), "mkfs.ext4 -q -L 'my data'")
	two, other := device(t, filepath.Join(dir, "two.img"), "mkfs.ext4 -q")
	run(t, "ln -s "+one+` '/dev/disk/by-label/my\x20data'`)
	fill := Resource{Target: dir + "/data", Device: "UUID=" + uuid, FSType: "ext4", Options: "noatime,nofail", Parents: true}
	l.Converge(t, fill)
	hosttest.Expect(t, "findmnt -rno SOURCE,FSTYPE "+fill.Target+"; grep data /etc/fstab", one+" ext4\nUUID="+uuid+" "+fill.Target+" ext4 noatime,nofail 0 0")
	run(t, "echo precious >"+fill.Target+"/file")
	// Another name of the same is no reason to unmount it.
	before := run(t, "findmnt -rno ID "+fill.Target)
	fill.Device = "LABEL=my data"
	l.Converge(t, fill)
	hosttest.Expect(t, "findmnt -rno ID "+fill.Target+"; cat "+fill.Target+"/file", before+"\nprecious")
	fill.Device = "UUID=" + other
	l.Converge(t, fill)
	hosttest.Expect(t, "findmnt -rno SOURCE "+fill.Target, two)
	// What is on a device is never made anew.
	l.Fails(t, Resource{Target: dir + "/wrong", Device: "UUID=" + uuid, FSType: "xfs", Parents: true}, "UUID="+uuid+" holds ext4, and the manifest says xfs")
	fill.Device = "UUID=" + uuid
	l.Converge(t, fill)
	hosttest.Expect(t, "cat "+fill.Target+"/file", "precious")
	// One that cannot be mounted leaves the one that is.
	l.Fails(t, Resource{Target: fill.Target, Device: "UUID=" + other, FSType: "ext4", Options: "noatime,oops"}, "cannot mount UUID="+other)
	hosttest.Expect(t, "cat "+fill.Target+"/file", "precious")
	l.InOrder(t, fill)
	l.Leave(t, fill)
	hosttest.Expect(t, "cat /etc/fstab; ls "+dir+"/data", "# a comment of people\nls: cannot access '"+dir+"/data': No such file or directory")
}

// renamed: what was mounted before it was managed stays when it leaves, although its
// device is another by now.
func renamed(t *testing.T, dir string) {
	l := newLab(t)
	file := filepath.Join(dir, "moves.img")
	name, uuid := device(t, file, "mkfs.ext4 -q")
	target := dir + "/moves"
	run(t, "mkdir "+target+"; echo 'UUID="+uuid+" "+target+" ext4 nofail 0 0' >>/etc/fstab; mount "+target)
	fill := Resource{Target: target, Device: "UUID=" + uuid, FSType: "ext4", Options: "nofail"}
	l.Converge(t, fill)
	run(t, "umount "+target+"; losetup -d "+name)
	taken, _ := device(t, filepath.Join(dir, "taken.img"), "mkfs.ext4 -q") // it gets the name
	other := run(t, "losetup --find --show "+file)
	t.Cleanup(func() { _ = exec.Command("losetup", "-d", other).Run() })
	if taken != name || other == name {
		t.Fatalf("the devices are %s, %s and %s", name, taken, other)
	}
	run(t, "ln -sf "+other+" /dev/disk/by-uuid/"+uuid+"; mount "+target)
	before := run(t, "findmnt -rno ID "+target)
	l.InOrder(t, fill)
	holder := exec.Command("sleep", "infinity")
	holder.Dir = target
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	l.Leave(t, fill)
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait()
	hosttest.Expect(t, "findmnt -rno ID "+target+"; grep -c moves /etc/fstab", before+"\n1")
	run(t, "umount "+target+"; sed -i '/moves/d' /etc/fstab")
}

func swapsTruly(t *testing.T, dir string) {
	l := newLab(t)
	file := filepath.Join(dir, "swap file")
	run(t, "dd if=/dev/zero of='"+file+"' bs=1M count=8 status=none; chmod 600 '"+file+"'; mkswap -q '"+file+"'")
	t.Cleanup(func() { _ = exec.Command("swapoff", file).Run() })
	if _, _, denied := syscall.Syscall(syscall.SYS_SWAPOFF, 0, 0, 0); denied == syscall.EPERM || denied == syscall.ENOSYS {
		t.Skipf("nobody may swap here: %v", denied)
	}
	fill := Resource{Target: file, FSType: swap, Options: "pri=5,nofail"}
	listed := `grep swap /etc/fstab; sed -n 's/.*swap.040file \+//p' /proc/swaps | xargs -r -n 5 | cut -d' ' -f1,4`
	entry := strings.ReplaceAll(file, " ", `\040`) + " none swap pri=5,nofail 0 0"
	l.Converge(t, fill)
	hosttest.Expect(t, listed, entry+"\nfile 5")
	run(t, "swapoff '"+file+"'")
	l.Converge(t, fill)
	hosttest.Expect(t, listed, entry+"\nfile 5")
	fill.Options = "pri=7,nofail"
	l.Converge(t, fill)
	if found := l.Check(t, fill); !strings.HasPrefix(found.Note, "swapped to with priority 5: pri=7 comes with the next boot") {
		t.Errorf("note is %q", found.Note)
	}
	run(t, "swapoff '"+file+"'")
	l.Converge(t, fill)
	if found := l.Check(t, fill); found.Note != "" {
		t.Errorf("note is %q", found.Note)
	}
	l.Leave(t, fill)
	hosttest.Expect(t, listed, "")
	_, uuid := device(t, filepath.Join(dir, "swap.img"), "mkswap -q")
	l.Converge(t, Resource{Target: "UUID=" + uuid, FSType: swap})
	hosttest.Expect(t, "grep -c /dev/loop /proc/swaps; grep -o 'UUID=.*' /etc/fstab", "1\nUUID="+uuid+" none swap defaults 0 0")
	l.Leave(t, Resource{Target: "UUID=" + uuid, FSType: swap})
	hosttest.Expect(t, "grep -c /dev/loop /proc/swaps", "0")
	// What is no swap is never made one.
	data, _ := device(t, filepath.Join(dir, "data.img"), "mkfs.ext4 -q")
	l.Fails(t, Resource{Target: data, FSType: swap}, "cannot mount "+data, "read swap header failed")
	hosttest.Expect(t, "blkid -p -o value -s TYPE "+data, "ext4")
}
