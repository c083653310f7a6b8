// Package otlp sends events over HTTP as OpenTelemetry log records, in the
// protobuf encoding of OTLP.
//
// The messages are OpenTelemetry's own; they are sent from the spool, so that
// nothing is queued here.
package otlp

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	logs "go.opentelemetry.io/proto/slim/otlp/logs/v1"
	resource "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	"google.golang.org/protobuf/proto"

	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/report/post"
)

// Kind is the word for the sink in the configuration.
const Kind = "otlp"

const (
	scopeName   = "trued.dev/trued"
	serviceName = "trued"
	// usualPath is where a collector takes logs.
	usualPath = "/v1/logs"
)

// Config is where events go.
type Config struct {
	post.Config `yaml:",inline"`
}

// A Sink sends to one receiver.
type Sink struct{ client *post.Client }

// New returns the sink. A URL without a path is that of a collector.
func New(c Config) *Sink {
	if u, err := url.Parse(string(c.URL)); err == nil && strings.Trim(u.Path, "/") == "" {
		u.Path = usualPath
		c.URL = post.URL(u.String())
	}
	return &Sink{post.New(c.Config)}
}

// Name implements report.Sink.
func (s *Sink) Name() string { return Kind + ":" + s.client.URL() }

// Send implements report.Sink.
func (s *Sink) Send(ctx context.Context, events []report.Stored) (int, error) {
	return s.client.Batch(ctx, events, encode, judge)
}

func encode(events []report.Stored) ([]byte, http.Header, error) {
	body, err := proto.Marshal(request(events, time.Now()))
	if err != nil {
		return nil, nil, fmt.Errorf("cannot encode events: %w", err)
	}
	return body, http.Header{"Content-Type": {"application/x-protobuf"}}, nil
}

// judge reads how many records a receiver did not keep although it took the
// request. They must not be sent again.
func judge(body []byte) error {
	var answer collector.ExportLogsServiceResponse
	if err := proto.Unmarshal(body, &answer); err != nil {
		return nil //nolint:nilerr // the status said that all is well
	}
	if n := answer.GetPartialSuccess().GetRejectedLogRecords(); n > 0 {
		return &report.PartialError{Lost: uint64(n), Err: fmt.Errorf("the receiver rejected %d events: %s", n, answer.GetPartialSuccess().GetErrorMessage())}
	}
	return nil
}

// request puts events of one host and version after another below a resource.
func request(events []report.Stored, now time.Time) *collector.ExportLogsServiceRequest {
	r := &collector.ExportLogsServiceRequest{}
	var last []string
	for _, e := range events {
		keys := decode(e.Event)
		about := []string{text(keys["host.id"]), text(keys["host.name"]), text(keys["trued.version"])}
		if last == nil || !slices.Equal(last, about) {
			last = about
			r.ResourceLogs = append(r.ResourceLogs, &logs.ResourceLogs{
				Resource: &resource.Resource{Attributes: attributes(map[string]any{
					"service.name": serviceName, "service.version": about[2], "host.id": about[0], "host.name": about[1],
				})},
				ScopeLogs: []*logs.ScopeLogs{{Scope: &common.InstrumentationScope{Name: scopeName, Version: about[2]}}},
			})
		}
		scope := r.ResourceLogs[len(r.ResourceLogs)-1].ScopeLogs[0]
		scope.LogRecords = append(scope.LogRecords, record(keys, now))
	}
	return r
}

// decode reads an event. What is none is a message, so that it stops nothing.
func decode(event json.RawMessage) map[string]any {
	var keys map[string]any
	d := json.NewDecoder(bytes.NewReader(event))
	d.UseNumber()
	if err := d.Decode(&keys); err != nil {
		return map[string]any{"message": strings.ToValidUTF8(string(event), "\uFFFD")}
	}
	return keys
}

func record(keys map[string]any, now time.Time) *logs.LogRecord {
	r := &logs.LogRecord{
		ObservedTimeUnixNano: uint64(now.UnixNano()),
		SeverityText:         text(keys["severity"]),
		SeverityNumber:       severity(report.Severity(text(keys["severity"]))),
		Body:                 anyValue(text(keys["message"])),
		EventName:            text(keys["type"]),
	}
	if at, err := time.Parse(time.RFC3339Nano, text(keys["time"])); err == nil {
		r.TimeUnixNano = uint64(at.UnixNano())
	}
	rest := map[string]any{}
	for key, v := range keys {
		if !inRecord(key) {
			rest[key] = v
		}
	}
	if id := text(keys["event_id"]); id != "" {
		// By the semantic conventions, what a receiver knows a repeat by.
		rest["log.record.uid"] = id
	}
	r.Attributes = attributes(rest)
	return r
}

// inRecord reports whether a record or its resource has a place of its own for a
// key.
func inRecord(key string) bool {
	switch key {
	case "message", "time", "severity", "type", "host.id", "host.name", "trued.version":
		return true
	}
	return false
}

func severity(s report.Severity) logs.SeverityNumber {
	switch s {
	case report.Error:
		return logs.SeverityNumber_SEVERITY_NUMBER_ERROR
	case report.Warning:
		return logs.SeverityNumber_SEVERITY_NUMBER_WARN
	case report.Notice:
		return logs.SeverityNumber_SEVERITY_NUMBER_INFO2
	default:
		return logs.SeverityNumber_SEVERITY_NUMBER_INFO
	}
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// attributes are keys and values, in order of the keys.
func attributes(keys map[string]any) []*common.KeyValue {
	list := make([]*common.KeyValue, 0, len(keys))
	for key, v := range keys {
		list = append(list, &common.KeyValue{Key: key, Value: anyValue(v)})
	}
	slices.SortFunc(list, func(a, b *common.KeyValue) int { return strings.Compare(a.Key, b.Key) })
	return list
}

// anyValue is a value of JSON as OTLP has it.
func anyValue(v any) *common.AnyValue {
	switch v := v.(type) {
	case string:
		return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: v}}
	case bool:
		return &common.AnyValue{Value: &common.AnyValue_BoolValue{BoolValue: v}}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: n}}
		}
		if f, err := v.Float64(); err == nil {
			return &common.AnyValue{Value: &common.AnyValue_DoubleValue{DoubleValue: f}}
		}
		return anyValue(v.String())
	case []any:
		list := &common.ArrayValue{}
		for _, item := range v {
			list.Values = append(list.Values, anyValue(item))
		}
		return &common.AnyValue{Value: &common.AnyValue_ArrayValue{ArrayValue: list}}
	case map[string]any:
		return &common.AnyValue{Value: &common.AnyValue_KvlistValue{KvlistValue: &common.KeyValueList{Values: attributes(v)}}}
	}
	return &common.AnyValue{}
}
