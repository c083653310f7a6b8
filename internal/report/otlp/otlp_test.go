package otlp_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	"google.golang.org/protobuf/proto"

	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/report/otlp"
	"trued.dev/trued/internal/report/post"
	"trued.dev/trued/internal/report/reporttest"
	"trued.dev/trued/internal/report/sinktest"
)

func attribute(list []*common.KeyValue, key string) *common.AnyValue {
	for _, kv := range list {
		if kv.GetKey() == key {
			return kv.GetValue()
		}
	}
	return nil
}

func sink(url string) *otlp.Sink {
	return otlp.New(otlp.Config{Config: post.Config{URL: post.URL(url)}})
}

func TestConformance(t *testing.T) {
	sinktest.Run(t, sinktest.Kind{
		Sink:    func(_ *testing.T, addr string) report.Sink { return sink("http://" + addr) },
		Serve:   sinktest.ServeOTLP,
		Answers: true,
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

// plain turns a value of OTLP back into one of JSON.
func plain(v *common.AnyValue) any {
	switch x := v.GetValue().(type) {
	case *common.AnyValue_StringValue:
		return x.StringValue
	case *common.AnyValue_BoolValue:
		return x.BoolValue
	case *common.AnyValue_IntValue:
		return float64(x.IntValue)
	case *common.AnyValue_ArrayValue:
		list := []any{}
		for _, item := range x.ArrayValue.GetValues() {
			list = append(list, plain(item))
		}
		return list
	case *common.AnyValue_KvlistValue:
		m := map[string]any{}
		for _, kv := range x.KvlistValue.GetValues() {
			m[kv.GetKey()] = plain(kv.GetValue())
		}
		return m
	}
	return nil
}

func TestARecordHasEveryKeyOfItsEvent(t *testing.T) {
	var got *collector.ExportLogsServiceRequest
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		got, _ = sinktest.Logs(req)
	}))
	defer server.Close()
	no := false
	s := otlp.New(otlp.Config{Config: post.Config{URL: post.URL(server.URL), Gzip: &no}})
	story := reporttest.Story()
	other := story[0]
	other.Version = "1.1.0"
	story = append(story, other)
	if n, err := s.Send(t.Context(), stored(t, story)); err != nil || n != len(story) {
		t.Fatalf("Send = %d, %v", n, err)
	}
	if len(got.GetResourceLogs()) != 2 {
		t.Fatalf("%d resources, want one for each version", len(got.GetResourceLogs()))
	}
	of := got.GetResourceLogs()[0].GetResource().GetAttributes()
	for key, want := range map[string]string{"service.name": "trued", "service.version": "1.0.0", "host.name": "web-1", "host.id": story[0].HostID} {
		if v := attribute(of, key).GetStringValue(); v != want {
			t.Errorf("%s = %q, want %q", key, v, want)
		}
	}
	for i, rec := range got.GetResourceLogs()[0].GetScopeLogs()[0].GetLogRecords() {
		e := story[i]
		at, err := time.Parse(time.RFC3339Nano, e.Time)
		if err != nil || rec.GetTimeUnixNano() != uint64(at.UnixNano()) || rec.GetEventName() != string(e.Type) || rec.GetBody().GetStringValue() != e.Message ||
			attribute(rec.GetAttributes(), "log.record.uid").GetStringValue() != e.ID {
			t.Errorf("record %d is %v", i, rec)
		}
		back := map[string]any{"message": e.Message, "time": e.Time, "severity": rec.GetSeverityText(), "type": rec.GetEventName(), "host.id": e.HostID, "host.name": e.HostName, "trued.version": e.Version}
		for _, kv := range rec.GetAttributes() {
			if kv.GetKey() != "log.record.uid" {
				back[kv.GetKey()] = plain(kv.GetValue())
			}
		}
		raw, err := json.Marshal(back)
		if err != nil {
			t.Fatal(err)
		}
		reporttest.Valid(t, raw)
	}
}

func TestWhatAReceiverRejectsOfABatchIsCountedAndNotSentAgain(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		body, err := proto.Marshal(&collector.ExportLogsServiceResponse{
			PartialSuccess: &collector.ExportLogsPartialSuccess{RejectedLogRecords: 3, ErrorMessage: "too old"},
		})
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(body)
	}))
	defer server.Close()
	events := stored(t, reporttest.Story())
	n, err := sink(server.URL).Send(t.Context(), events)
	var partial *report.PartialError
	if n != len(events) || !errors.As(err, &partial) || partial.Lost != 3 || !strings.Contains(err.Error(), "too old") {
		t.Errorf("Send = %d, %v", n, err)
	}
}
