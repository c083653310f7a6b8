package health

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// What a host reaches is told by two answers: that of the gateway of its default
// route to an echo, and that of a resolver to a question that any resolver can
// answer. Each counts only where it came before the run, too: where gateways do
// not answer, or where there are none, nothing is lost. A resolver beyond the
// gateway stands for the gateway as well, so that a host which no longer sends
// echoes is not taken for one that is cut off.
const (
	reachGateway  = "gateway"
	reachResolver = "resolver"
)

const (
	// reachWithin is how long the network may take after a run to answer again, and
	// reachEvery the pause between two tries.
	reachWithin = 30 * time.Second
	reachEvery  = 2 * time.Second
	// answerWithin is how long one answer may take, answerTries how often is asked.
	answerWithin = 2 * time.Second
	answerTries  = 2
)

// Reach tells heard of what of the network answers now, each once and as soon as it
// does, and returns when nothing more is waited for.
func (p *Prober) Reach(ctx context.Context, heard func(what string)) {
	var mu sync.Mutex
	said := map[string]bool{}
	say := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		if !said[what] {
			said[what] = true
			heard(what)
		}
	}
	var both sync.WaitGroup
	both.Go(func() {
		if p.gateway(ctx) {
			say(reachGateway)
		}
	})
	both.Go(func() {
		p.resolver(ctx, func(beyond bool) {
			say(reachResolver)
			if beyond {
				say(reachGateway)
			}
		})
	})
	both.Wait()
}

// reaches returns what of the network answers now.
func (p *Prober) reaches(ctx context.Context) []string {
	var found []string
	p.Reach(ctx, func(what string) { found = append(found, what) })
	return found
}

// awaitReach waits until all that answered before answers again.
func (p *Prober) awaitReach(ctx context.Context, before []string, until time.Time) []Report {
	if len(before) == 0 {
		return nil
	}
	began := time.Now()
	deadline := began.Add(reachWithin)
	if until.Before(deadline) {
		deadline = until
	}
	for {
		now := p.reaches(ctx)
		if ctx.Err() != nil {
			return nil // what did not answer was not waited for
		}
		missing := slices.DeleteFunc(slices.Clone(before), func(s string) bool { return slices.Contains(now, s) })
		if len(missing) == 0 || !time.Now().Before(deadline) {
			return reachReports(before, missing, time.Since(began))
		}
		select {
		case <-ctx.Done():
		case <-time.After(min(reachEvery, time.Until(deadline))):
		}
	}
}

func reachReports(before, missing []string, took time.Duration) []Report {
	words := map[string]string{
		reachGateway:  "the default route leads nowhere: its gateway answered before the run and does not any more",
		reachResolver: "no name can be resolved: a resolver answered before the run and none does any more",
	}
	var reports []Report
	for _, what := range before {
		r := Report{Probe: "network", Target: what, Good: !slices.Contains(missing, what), Took: took}
		if !r.Good {
			r.Why = words[what]
		}
		reports = append(reports, r)
	}
	return reports
}

// gateway reports whether the gateway of a default route answers.
func (p *Prober) gateway(ctx context.Context) bool {
	for _, addr := range p.gateways() {
		for range answerTries {
			if echo(ctx, addr) == nil {
				return true
			}
		}
	}
	return false
}

// gateways are those of the default routes, with the interface where that is part
// of the address.
func (p *Prober) gateways() []netip.Addr {
	var all []netip.Addr
	p.lines("/proc/net/route", func(f []string) {
		const destination, gateway, mask = 1, 2, 7
		if len(f) <= mask || f[destination] != "00000000" || f[mask] != "00000000" {
			return
		}
		if raw, err := hex.DecodeString(f[gateway]); err == nil && len(raw) == 4 {
			slices.Reverse(raw) // as the machine has it in memory
			if a, ok := netip.AddrFromSlice(raw); ok && !a.IsUnspecified() {
				all = append(all, a)
			}
		}
	})
	p.lines("/proc/net/ipv6_route", func(f []string) {
		const destination, length, gateway, device = 0, 1, 4, 9
		if len(f) <= device || strings.Trim(f[destination], "0") != "" || f[length] != "00" {
			return
		}
		if raw, err := hex.DecodeString(f[gateway]); err == nil && len(raw) == 16 {
			if a, ok := netip.AddrFromSlice(raw); ok && !a.IsUnspecified() {
				if a.IsLinkLocalUnicast() {
					a = a.WithZone(f[device])
				}
				all = append(all, a)
			}
		}
	})
	return all
}

// lines calls each with the words of each line of a file. A file that is not there
// has none.
func (p *Prober) lines(name string, each func(words []string)) {
	data, err := p.host.ReadFile(name, bodyRead)
	if err != nil {
		return
	}
	lines := bufio.NewScanner(strings.NewReader(string(data)))
	for lines.Scan() {
		each(strings.Fields(lines.Text()))
	}
}

// echo asks an address for an echo and waits for it.
func echo(ctx context.Context, to netip.Addr) error {
	network, kind, reply, protocol := "ip4:icmp", icmp.Type(ipv4.ICMPTypeEcho), icmp.Type(ipv4.ICMPTypeEchoReply), 1
	if to.Is6() {
		network, kind, reply, protocol = "ip6:ipv6-icmp", ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply, 58
	}
	conn, err := new(net.ListenConfig).ListenPacket(ctx, network, "")
	if err != nil {
		return err
	}
	defer conn.Close()
	id := rand.IntN(1 << 16) //nolint:gosec // tells echoes apart, no secret
	out, err := (&icmp.Message{Type: kind, Body: &icmp.Echo{ID: id, Seq: 1, Data: []byte("trued")}}).Marshal(nil)
	if err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.WriteTo(out, &net.IPAddr{IP: to.AsSlice(), Zone: to.Zone()}); err != nil {
		return err
	}
	buf := make([]byte, 1500)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		m, err := icmp.ParseMessage(protocol, buf[:n])
		if err != nil || m.Type != reply {
			continue
		}
		if e, ok := m.Body.(*icmp.Echo); ok && e.ID == id {
			return nil
		}
	}
}

// resolver calls answers for each resolver of the host that does, with whether it is
// beyond the gateway.
func (p *Prober) resolver(ctx context.Context, answers func(beyond bool)) {
	near := onLink()
	for _, addr := range p.resolvers() {
		for range answerTries {
			if ask(ctx, netip.AddrPortFrom(addr, 53)) == nil {
				answers(!addr.IsLoopback() && !addr.IsLinkLocalUnicast() &&
					!slices.ContainsFunc(near, func(n netip.Prefix) bool { return n.Contains(addr.WithZone("")) }))
				break
			}
		}
	}
}

// resolvers are those that the C library asks.
func (p *Prober) resolvers() []netip.Addr {
	const asked = 3
	var all []netip.Addr
	p.lines("/etc/resolv.conf", func(f []string) {
		if len(f) > 1 && f[0] == "nameserver" && len(all) < asked {
			if a, err := netip.ParseAddr(f[1]); err == nil {
				all = append(all, a)
			}
		}
	})
	return all
}

// onLink are the networks that the host is in.
func onLink() []netip.Prefix {
	var all []netip.Prefix
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, p.Masked())
		}
	}
	return all
}

// ask asks a resolver for the servers of the root, which each one knows. One that
// cannot find out does not answer, as far as the host is concerned; one that will
// not say does.
func ask(ctx context.Context, server netip.AddrPort) error {
	id := uint16(rand.Uint32()) //nolint:gosec // tells answers apart, no secret
	question := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("."), Type: dnsmessage.TypeNS, Class: dnsmessage.ClassINET}},
	}
	out, err := question.Pack()
	if err != nil {
		return err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "udp", server.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write(out); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return err
		}
		var parser dnsmessage.Parser
		h, err := parser.Start(buf[:n])
		switch {
		case err != nil || h.ID != id || !h.Response:
			continue
		case h.RCode == dnsmessage.RCodeServerFailure:
			return errors.New("the resolver cannot find out")
		}
		return nil
	}
}
