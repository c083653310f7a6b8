package syslog

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/leodido/go-syslog/v4/rfc5424"

	"trued.dev/trued/internal/report"
)

const (
	appName = "trued"
	// element is the name of the structured data. 32473 is the number that RFC
	// 5612 sets aside for whoever has none of their own.
	element = "trued@32473"
	// cutKey names what was left off, or cut, for the length of the message.
	cutKey = "trued.cut"
	// Receivers take that much: RFC 5425, RFC 5426 and rsyslog's default.
	mostStream   = 8192
	mostDatagram = 2048
	// What fits into a field, and what the header has at most.
	mostHostname = 255
	mostMsgID    = 32
	mostKey      = 32
	mostHeader   = 420
)

// encode returns an event as a message of RFC 5424, in about that many bytes at
// most. The keys of the event are its structured data.
func encode(event json.RawMessage, facility Facility, most int) ([]byte, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(event, &keys); err != nil {
		// Nothing that is stored may stop the sink for good.
		keys = map[string]json.RawMessage{"message": event}
	}
	text := sentence(keys)
	m := rfc5424.SyslogMessage{}
	m.SetPriority(uint8(facility)<<3 | severity(report.Severity(value(keys["severity"]))))
	m.SetVersion(1)
	if at, err := time.Parse(time.RFC3339Nano, value(keys["time"])); err == nil {
		m.SetTimestamp(at.UTC().Format("2006-01-02T15:04:05.000000Z07:00"))
	}
	m.SetHostname(printable(value(keys["host.name"]), mostHostname))
	m.SetAppname(appName)
	m.SetMsgID(printable(value(keys["type"]), mostMsgID))
	if params := parameters(keys, most-mostHeader-len(text)); len(params) > 0 {
		m.StructuredData = &map[string]map[string]string{element: params}
	}
	m.SetMessage(text)
	line, err := m.String()
	return []byte(line), err
}

// sentence is what a person reads who sees nothing else of the message: what
// happened, and what the host was kept true to.
func sentence(keys map[string]json.RawMessage) string {
	text := value(keys["message"])
	revision, group := value(keys["vcs.ref.head.revision"]), value(keys["trued.group"])
	const short = 12
	switch revision = revision[:min(len(revision), short)]; {
	case revision != "" && group != "":
		text += " [" + group + " at " + revision + "]"
	case revision != "":
		text += " [at " + revision + "]"
	}
	return clean(text, "")
}

// clean is text without control characters but those allowed.
func clean(text, allowed string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && !strings.ContainsRune(allowed, r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

// parameters are the keys that are not in the header, as many as fit: first those
// of a few words, then the longest ones. One that does not fit is cut where it
// is text, and left off where it is a list.
func parameters(keys map[string]json.RawMessage, room int) map[string]string {
	var names []string
	for name := range keys {
		if !inHeader(name) {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		if n := len(keys[a]) - len(keys[b]); n != 0 {
			return n
		}
		return strings.Compare(a, b)
	})
	params := map[string]string{}
	var cut []string
	room -= len(cutKey) + mostKey*4
	for _, name := range names {
		text := clean(value(keys[name]), "\n\t")
		size := parameterSize(name, text)
		if size > room || len(name) > mostKey {
			cut = append(cut, name)
			if room < mostKey*4 || len(name) > mostKey || keys[name][0] != '"' {
				continue
			}
			// Each byte may take two.
			text = strings.ToValidUTF8(text[:min(len(text), room/2-mostKey)], "") + "…"
			size = parameterSize(name, text)
		}
		params[name] = text
		room -= size
	}
	if len(cut) > 0 {
		params[cutKey] = strings.Join(cut[:min(len(cut), 4)], " ")
	}
	return params
}

// parameterSize is how much a parameter takes, escaped.
func parameterSize(name, text string) int {
	return len(name) + len(text) + len(` =""`) +
		strings.Count(text, `"`) + strings.Count(text, `\`) + strings.Count(text, `]`)
}

// inHeader reports whether the message has a place of its own for a key.
func inHeader(key string) bool {
	switch key {
	case "message", "time", "host.name", "type":
		return true
	}
	return false
}

// value is the text of a string, and the JSON of everything else.
func value(raw json.RawMessage) string {
	var s string
	if err := json.Unmarshal(raw, &s); err == nil {
		return s
	}
	return string(raw)
}

// printable is text as a field of the header takes it.
func printable(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '_'
		}
		return r
	}, s)
	return s[:min(len(s), most)]
}

func severity(s report.Severity) uint8 {
	switch s {
	case report.Error:
		return 3
	case report.Warning:
		return 4
	case report.Notice:
		return 5
	default:
		return 6
	}
}
