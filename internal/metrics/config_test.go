package metrics_test

import (
	"strings"
	"testing"

	"trued.dev/trued/internal/metrics"
)

func TestMetricsAreForThisMachineAlone(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1:9469":         "",
		"[::1]:9469":             "",
		"127.8.8.8:9469":         "",
		"/run/trued/metrics":     "",
		"0.0.0.0:9469":           `"0.0.0.0:9469" is not of this machine alone`,
		"[::]:9469":              "not of this machine alone",
		"10.0.0.1:9469":          "write the path of a socket, 127.0.0.1:9469 or [::1]:9469",
		"192.0.2.1:80":           "not of this machine alone",
		"[::ffff:10.0.0.1]:9469": "not of this machine alone",
		":9469":                  "is no address",
		"localhost:9469":         "write the path of a socket, 127.0.0.1:PORT or [::1]:PORT",
		"9469":                   "is no address",
		"127.0.0.1":              "is no address",
		"127.0.0.1:0":            "has no port",
		"/run/../etc/x":          `has ".." in it`,
		"metrics.sock":           "is no address",
		"@metrics":               "is no address",
		"":                       "is no address",
	} {
		var a metrics.Address
		err := a.UnmarshalText([]byte(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestATextfileIsOneThatTheNodeExporterReads(t *testing.T) {
	for text, want := range map[string]string{
		"/var/lib/prometheus/node-exporter/trued.prom": "",
		"/var/lib/prometheus/node-exporter/trued.txt":  "its files end in .prom",
		"trued.prom":     "not an absolute path",
		"/var/../x.prom": `has ".." in it`,
		"":               "is empty",
	} {
		var f metrics.Textfile
		err := f.UnmarshalText([]byte(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
