package hosttest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	prefix    = "10.77.0."
	gatewayIP = prefix + "1"
)

// A network is a namespace with a bridge that hosts are plugged into. It is no
// part of the machine's network: labs use the same addresses at the same time,
// and all is gone when the last file that refers to it is closed.
type network struct {
	ns     *os.File
	last   int // the last number that an address was made from
	mirror *url.URL
	in     net.Listener
	busy   sync.WaitGroup
}

func newNetwork() (*network, error) {
	m, err := mirror()
	if err != nil {
		return nil, err
	}
	n := &network{mirror: m, last: 10}
	if n.ns, err = newNamespace(); err != nil {
		return nil, err
	}
	err = ip(n.ns, "link set lo up", "link add br0 type bridge forward_delay 0",
		"addr add "+gatewayIP+"/24 dev br0", "link set br0 up")
	if err == nil {
		err = n.forwardMirror()
	}
	if err != nil {
		n.ns.Close()
		return nil, err
	}
	return n, nil
}

// forwardMirror is the one way out: connections to the gateway are carried on
// to the Debian mirror.
func (n *network) forwardMirror() error {
	port := n.mirror.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[n.mirror.Scheme]
	}
	err := within(n.ns, func() (err error) {
		n.in, err = net.Listen("tcp4", net.JoinHostPort(gatewayIP, port))
		return err
	})
	if err != nil {
		return err
	}
	out := net.JoinHostPort(n.mirror.Hostname(), port)
	n.busy.Go(func() {
		for {
			c, err := n.in.Accept()
			if err != nil {
				return // closed
			}
			go carry(c, out)
		}
	})
	return nil
}

// carry ends with its connection, whose other end dies with the host.
func carry(c net.Conn, address string) {
	defer c.Close()
	far, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer far.Close()
	go func() {
		_, _ = io.Copy(far, c)
		if tcp, ok := far.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
	}()
	_, _ = io.Copy(c, far)
}

func (n *network) close() {
	n.in.Close()
	n.busy.Wait()
	n.ns.Close()
}

// A port is a host's end of the network.
type port struct {
	ns   *os.File // the host's network namespace
	ip   string   // empty without a cable
	far  *os.File // the namespace of the bridge
	name string   // the cable's end there
}

// plug makes a namespace for a host, and a cable to it when it is to have one;
// a nil network has no cables.
func (n *network) plug(wired bool) (*port, error) {
	ns, err := newNamespace()
	if err != nil {
		return nil, err
	}
	p := &port{ns: ns}
	if !wired {
		return p, ip(ns, "link set lo up")
	}
	n.last++
	p.ip, p.far, p.name = fmt.Sprint(prefix, n.last), n.ns, fmt.Sprint("h", n.last)
	err = ip(n.ns, "link add "+p.name+" type veth peer name eth0 netns "+nsPath(ns), "link set "+p.name+" master br0 up")
	if err == nil {
		err = ip(ns, "link set lo up", "addr add "+p.ip+"/24 dev eth0", "link set eth0 up", "route add default via "+gatewayIP)
	}
	if err != nil {
		ns.Close()
	}
	return p, err
}

// set pulls the cable, or puts it back.
func (p *port) set(state string) error {
	if p.ip == "" {
		return fmt.Errorf("the host has no network")
	}
	return ip(p.far, "link set "+p.name+" "+state)
}

func (p *port) close() { p.ns.Close() }

// newNamespace returns an empty network namespace that lasts as long as the
// file, or as a process within.
func newNamespace() (*os.File, error) {
	var f *os.File
	err := onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("cannot make a network namespace: %w", err)
		}
		var err error
		f, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	return f, err
}

// within calls f in a network namespace. What it opens stays there.
func within(ns *os.File, f func() error) error {
	return onOwnThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("cannot enter the network namespace: %w", err)
		}
		return f()
	})
}

// onOwnThread calls f on a thread that ends with it.
func onOwnThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the runtime ends the thread
		done <- f()
	}()
	return <-done
}

func nsPath(ns *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd()) }

// ip runs commands of ip(8) in a namespace.
func ip(ns *os.File, commands ...string) error {
	cmd := exec.Command("nsenter", "--net="+nsPath(ns), "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(commands, "; "), err, out)
	}
	return nil
}

// Dial connects to a host of the lab, by name or address; it is a DialContext
// for an http.Transport.
func (l *Lab) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	name, portNumber, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	for _, h := range l.hosts {
		if h.name == name {
			name = h.port.ip
		}
	}
	n := l.net
	l.mu.Unlock()
	if n == nil || net.ParseIP(name) == nil {
		return nil, fmt.Errorf("the lab has no host %q with a network", name)
	}
	var c net.Conn
	err = within(n.ns, func() (err error) {
		c, err = new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(name, portNumber))
		return err
	})
	return c, err
}

// Listen listens on the gateway of the lab, an address that its hosts know by
// the name "gateway". The lab must have a host with a network.
func (l *Lab) Listen(port string) (net.Listener, error) {
	l.mu.Lock()
	n := l.net
	l.mu.Unlock()
	if n == nil {
		return nil, fmt.Errorf("the lab has no network yet")
	}
	var in net.Listener
	err := within(n.ns, func() (err error) {
		in, err = net.Listen("tcp4", net.JoinHostPort(gatewayIP, port))
		return err
	})
	return in, err
}

var aptSource = regexp.MustCompile(`(?m)^(?:URIs:|deb(?:\s+\[[^]]*\])?)\s+(https?://\S+/debian)/?(?:\s|$)`)

// mirror is where this machine gets Debian from, or TRUED_LAB_MIRROR.
func mirror() (*url.URL, error) {
	address := os.Getenv("TRUED_LAB_MIRROR")
	files, _ := filepath.Glob("/etc/apt/sources.list.d/*")
	for _, name := range append([]string{"/etc/apt/sources.list"}, files...) {
		b, err := os.ReadFile(name)
		if m := aptSource.FindSubmatch(b); err == nil && m != nil && address == "" {
			address = string(m[1])
		}
	}
	if address == "" {
		address = "http://deb.debian.org/debian"
	}
	u, err := url.Parse(strings.TrimSuffix(address, "/"))
	if err != nil || u.Hostname() == "" {
		return nil, fmt.Errorf("%q is no Debian mirror: set TRUED_LAB_MIRROR=http://HOST/debian", address)
	}
	return u, nil
}
