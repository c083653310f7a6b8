package syslog

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	gosyslog "github.com/leodido/go-syslog/v4"
	"github.com/leodido/go-syslog/v4/octetcounting"
	"github.com/leodido/go-syslog/v4/rfc5424"

	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/report/endpoint"
	"trued.dev/trued/internal/report/reporttest"
	"trued.dev/trued/internal/report/sinktest"
	"trued.dev/trued/internal/resource"
)

// serve takes messages as a syslog server does, and closes when the sender has.
func serve(l net.Listener, r *sinktest.Receiver) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			p := octetcounting.NewParser(gosyslog.WithListener(func(m *gosyslog.Result) {
				if m.Error != nil {
					return // the connection was cut
				}
				if id, ok := parameters5424(m.Message)["event_id"]; ok {
					r.Took(id)
				}
			}))
			p.Parse(c)
		}()
	}
}

func parameters5424(m gosyslog.Message) map[string]string {
	sd := m.(*rfc5424.SyslogMessage).StructuredData
	if sd == nil {
		return nil
	}
	return (*sd)[element]
}

func TestConformanceOverTCP(t *testing.T) {
	sinktest.Run(t, sinktest.Kind{
		Sink:  func(_ *testing.T, addr string) report.Sink { return New(Config{Address: Address("tcp://" + addr)}) },
		Serve: serve,
	})
}

func TestConformanceOverTLS(t *testing.T) {
	certs := sinktest.NewCertificates(t)
	sinktest.Run(t, sinktest.Kind{
		Sink: func(_ *testing.T, addr string) report.Sink {
			return New(Config{Address: Address("tls://" + addr), TLS: certs.Client})
		},
		Serve: func(l net.Listener, r *sinktest.Receiver) { serve(tls.NewListener(l, certs.Server), r) },
	})
}

func stored(t *testing.T, events []report.Event) []report.Stored {
	t.Helper()
	var all []report.Stored
	for i, e := range events {
		raw, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, report.Stored{Seq: uint64(i + 1), Event: raw})
	}
	return all
}

var update = flag.Bool("update", false, "write the golden files anew")

// The messages are as the golden file has them, and the grammar of RFC 5424 takes
// them; the structured data has every key that the header has no place for.
func TestMessagesHaveEveryKey(t *testing.T) {
	var all bytes.Buffer
	for _, e := range stored(t, reporttest.Story()) {
		line, err := encode(e.Event, daemon, mostStream)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(append(line, '\n'))
		m, err := rfc5424.NewMachine().Parse(line)
		if err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(e.Event, &keys); err != nil {
			t.Fatal(err)
		}
		params := parameters5424(m)
		for key, raw := range keys {
			if !inHeader(key) && params[key] != value(raw) {
				t.Errorf("%s = %q, want %q", key, params[key], value(raw))
			}
		}
		if got := *m.(*rfc5424.SyslogMessage).Hostname; got != "web-1" {
			t.Errorf("host = %q", got)
		}
	}
	path := filepath.Join("testdata", "messages.txt")
	if *update {
		if err := os.WriteFile(path, all.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), all.String()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestMessagesAreBoundedAndSayWhatWasCut(t *testing.T) {
	hostile := strings.Repeat(`"\]Größe`+"\x00\n", 5000)
	e := report.NewRun(report.Context{HostID: "i", HostName: "hö st\n", Version: "v"}).Resource(report.ResourceOutcome{
		Address: resource.Address{Kind: "file", Name: "/" + strings.Repeat("]", 2000)}, Cause: resource.Drift, Outcome: report.Failed,
		Changes: resource.Diff{{Field: "content", Old: hostile, New: hostile}}, Err: errors.New(hostile),
	})
	raw, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, most := range []int{mostStream, mostDatagram} {
		line, err := encode(raw, daemon, most)
		if err != nil {
			t.Fatal(err)
		}
		m, err := rfc5424.NewMachine().Parse(line)
		if err != nil || len(line) > most || bytes.ContainsRune(line, 0) {
			t.Errorf("%d bytes of at most %d: %v\n%s", len(line), most, err, line)
			continue
		}
		params := parameters5424(m)
		if params["event_id"] != e.ID || params["trued.cause"] != "drift" || !strings.Contains(params[cutKey], "trued.changes") {
			t.Errorf("params = %v", params)
		}
	}
}

func TestDatagramsGoToALocalSocketAndOverUDP(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	local, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	events := stored(t, reporttest.Story())[:5]
	for address, c := range map[string]net.PacketConn{"unix://" + path: local, "udp://" + udp.LocalAddr().String(): udp} {
		if n, err := New(Config{Address: Address(address), Facility: 16}).Send(t.Context(), events); err != nil || n != 5 {
			t.Errorf("Send to %s = %d, %v", address, n, err)
		}
		b := make([]byte, 1<<16)
		for range events {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				t.Fatal(err)
			}
			if m, err := rfc5424.NewMachine().Parse(b[:n]); err != nil || *m.FacilityLevel() != "local0" {
				t.Errorf("%v: %s", err, b[:n])
			}
		}
	}
	_ = local.Close()
	if n, err := New(Config{Address: Address("unix://" + path)}).Send(t.Context(), events); n != 0 || err == nil {
		t.Errorf("Send to a dead socket = %d, %v", n, err)
	}
}

func TestALocalSocketThatIsFullHoldsNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	local, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	events := stored(t, reporttest.Story())
	for len(events) < 5000 {
		events = append(events, events...)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if n, err := New(Config{Address: Address("unix://" + path)}).Send(ctx, events); n == 0 || n == len(events) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Send = %d, %v", n, err)
	}
}

func TestWhoIsNotTrustedGetsNothing(t *testing.T) {
	certs, others := sinktest.NewCertificates(t), sinktest.NewCertificates(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", certs.Server)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, c); _ = c.Close() }()
		}
	}()
	readable := certs.Client
	readable.ClientKeyFile = filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(readable.ClientKeyFile, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	unshown, named := certs.Client, certs.Client
	unshown.ClientCertFile, unshown.ClientKeyFile = "", ""
	named.ServerName = "logs.example.com"
	for _, c := range []struct {
		why  string
		tls  endpoint.TLS
		says string
	}{
		{"another CA", others.Client, "certificate signed by unknown authority"},
		{"no certificate of ours", unshown, ""}, // the reason may be lost with the connection
		{"a certificate of another name", named, "logs.example.com"},
		{"a key that others can read", readable, "can be read by others"},
	} {
		n, err := New(Config{Address: Address("tls://" + l.Addr().String()), TLS: c.tls}).Send(t.Context(), stored(t, reporttest.Story()))
		if n != 0 || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: Send = %d, %v; want %q", c.why, n, err, c.says)
		}
	}
}
