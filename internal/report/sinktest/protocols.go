package sinktest

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	collector "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	"google.golang.org/protobuf/proto"
)

// CloudEvents are the events of a request, as the official library reads them.
func CloudEvents(req *http.Request) ([]event.Event, error) {
	if strings.HasPrefix(req.Header.Get("Content-Type"), "application/cloudevents-batch+json") {
		return cehttp.NewEventsFromHTTPRequest(req)
	}
	e, err := cehttp.NewEventFromHTTPRequest(req)
	if err != nil {
		return nil, err
	}
	return []event.Event{*e}, nil
}

// ServeCloudEvents serves a receiver of CloudEvents.
func ServeCloudEvents(l net.Listener, r *Receiver) {
	ServeHTTP(l, r, func(w http.ResponseWriter, req *http.Request) {
		events, err := CloudEvents(req)
		for _, e := range events {
			err = errors.Join(err, e.Validate())
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		for _, e := range events {
			r.Took(e.ID())
		}
		w.WriteHeader(http.StatusAccepted)
	})
}

// Logs are the records of a request, as OpenTelemetry's messages.
func Logs(req *http.Request) (*collector.ExportLogsServiceRequest, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	var r collector.ExportLogsServiceRequest
	return &r, proto.Unmarshal(body, &r)
}

// ServeOTLP serves a receiver of OpenTelemetry logs.
func ServeOTLP(l net.Listener, r *Receiver) {
	ServeHTTP(l, r, func(w http.ResponseWriter, req *http.Request) {
		got, err := Logs(req)
		if err != nil || req.URL.Path != "/v1/logs" || req.Header.Get("Content-Type") != "application/x-protobuf" {
			http.Error(w, "not OTLP", http.StatusBadRequest)
			return
		}
		for _, of := range got.GetResourceLogs() {
			for _, scope := range of.GetScopeLogs() {
				for _, rec := range scope.GetLogRecords() {
					for _, kv := range rec.GetAttributes() {
						if kv.GetKey() == "event_id" {
							r.Took(kv.GetValue().GetStringValue())
						}
					}
				}
			}
		}
	})
}
