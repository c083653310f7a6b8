package sinks_test

import (
	"fmt"
	"strings"
	"testing"

	"trued.dev/trued/internal/document"
	"trued.dev/trued/internal/report/sinks"
)

// read decodes the configuration's list of sinks, and returns what is wrong, or
// the names of the sinks.
func read(t *testing.T, text string) string {
	t.Helper()
	docs, problems := document.Parse([]byte(text))
	var c struct {
		Report []sinks.Config `yaml:"report"`
	}
	if len(problems) == 0 {
		problems = document.NewDecoder().Decode(docs[0], &c)
	}
	if len(problems) > 0 {
		return fmt.Sprint(problems)
	}
	var names []string
	for _, s := range c.Report {
		r, err := s.Open(nil, false, "/var/lib/trued/spool")
		if err != nil {
			return err.Error()
		}
		names = append(names, r.Sink.Name())
		if r.Spool != "" {
			names = append(names, r.Spool)
		}
	}
	return strings.Join(names, " ")
}

func TestSinksAreReadAsWordsAndMaps(t *testing.T) {
	for text, want := range map[string]string{
		"report: [journal, stdout]":                                                                              "journal stdout",
		"report: [{journal: true, types: [resource.*]}]":                                                         "journal",
		"report:\n- journal\n- file: /var/log/e.jsonl\n":                                                         "journal file:/var/log/e.jsonl",
		"report:\n- syslog: tls://logs.example.com":                                                              "syslog:tls://logs.example.com:6514 /var/lib/trued/spool/syslog_tls___logs.example.com_6514-",
		"report:\n- {syslog: 'unix:///dev/log', name: alerts}":                                                   "syslog:unix:///dev/log:alerts",
		"report:\n- syslog:\n    address: udp://[::1]\n    facility: local3\n":                                   "syslog:udp://[::1]:514",
		"report:\n- {syslog: 'tcp://a:601', severity: warning, causes: [drift], spool: {bytes: 8MiB, age: 24h}}": "syslog:tcp://a:601",

		"report:\n- http: https://logs.example.com/events":                                                       "http:https://logs.example.com/events",
		"report:\n- http: {url: https://a/b, mode: structured, gzip: false, token_file: /t, hmac_key_file: key}": "http:https://a/b",
		"report:\n- otlp: https://collector:4318":                                                                "otlp:https://collector:4318/v1/logs",
		"report:\n- otlp: {url: https://collector:4318/x, ca_file: /a}":                                          "otlp:https://collector:4318/x",
		"report:\n- otlp\n":                                   `the sink "otlp" needs a URL`,
		"report:\n- http: ftp://a\n":                          "no URL of HTTP",
		"report:\n- http: https://u:s3cret@a/\n":              "token_file",
		"report:\n- http: https://a/?token=s3cret\n":          "token_file",
		"report:\n- http: {url: http://a/, token_file: /t}\n": "https:// only",
		"report:\n- http: {url: http://a/, ca_file: /t}\n":    "https://",
		"report:\n- http: {url: https://a/, mode: binary}\n":  `unknown mode "binary"`,
		"report:\n- http: {mode: structured}\n":               "there is no url",
		"report:\n- {http: https://a/, otlp: https://a/}\n":   "http and otlp are two sinks",

		"report:\n- file\n":                                             `the sink "file" needs a path`,
		"report:\n- syslog\n":                                           `the sink "syslog" needs an address`,
		"report:\n- jurnal\n":                                           `unknown sink "jurnal"`,
		"report:\n- jurnal: true\n":                                     `unknown key "jurnal"`,
		"report:\n- file: [a]\n":                                        "file: ",
		"report:\n- file: e.jsonl\n":                                    "not an absolute path",
		"report:\n- file: /var/log/e.jsonl\n  file: /b\n":               "",
		"report:\n- {types: [run.finished]}\n":                          "a sink is journal",
		"report:\n- {journal: true, file: /a}\n":                        "journal and file are two sinks",
		"report:\n- {journal: true, types: [resource.changd]}\n":        `"resource.changd" matches no type`,
		"report:\n- {journal: true, causes: [drifted]}\n":               `unknown cause "drifted"`,
		"report:\n- {journal: true, severity: loud}\n":                  `unknown severity "loud"`,
		"report:\n- {journal: true, spool: {bytes: 2MiB}}\n":            "journal has no spool",
		"report:\n- {syslog: 'udp://a', spool: {bytes: 2}}\n":           "is no amount",
		"report:\n- {syslog: 'udp://a', spool: {bytes: 8KiB}}\n":        "1MiB is the least",
		"report:\n- {syslog: 'udp://a', spool: {age: 1s}}\n":            "1m is the least",
		"report:\n- syslog: tcp://a\n":                                  "names no port",
		"report:\n- syslog: logs.example.com\n":                         "no transport",
		"report:\n- syslog: tls://u:p@a\n":                              "nothing else",
		"report:\n- syslog: unix://dev/log\n":                           "no absolute path",
		"report:\n- syslog: {address: 'tcp://a:1', ca_file: /a}":        "tls://",
		"report:\n- syslog: {address: 'tls://a', client_cert_file: /a}": "go together",
		"report:\n- syslog: {address: 'udp://a', facility: lokal}":      `unknown facility "lokal"`,
		"report:\n- syslog: {facility: local1}":                         "needs an address",
	} {
		got := read(t, text)
		if !strings.Contains(got, want) || want == "" && got == "" {
			t.Errorf("%q is read as %s, want %s", text, got, want)
		}
	}
}
