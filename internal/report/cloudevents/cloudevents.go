// Package cloudevents sends events over HTTP as CloudEvents 1.0, in the JSON
// format: one structured event a request, or a batch of them.
package cloudevents

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"

	"trued.dev/trued/internal/report"
	"trued.dev/trued/internal/report/endpoint"
	"trued.dev/trued/internal/report/post"
)

// Kind is the word for the sink in the configuration.
const Kind = "http"

// Config is where events go, and how.
type Config struct {
	post.Config `yaml:",inline"`
	Mode        Mode   `yaml:"mode" doc:"batched, or structured: one event a request; batched"`
	HMACKeyFile string `yaml:"hmac_key_file" doc:"key that bodies are signed with, readable by its owner alone"`
}

// A Mode is a content mode of CloudEvents.
type Mode string

// The modes.
const (
	Batched    Mode = "batched"
	Structured Mode = "structured"
)

// UnmarshalText takes only the modes that there are.
func (m *Mode) UnmarshalText(text []byte) error {
	switch Mode(text) {
	case Batched, Structured:
		*m = Mode(text)
		return nil
	}
	return fmt.Errorf("unknown mode %q: write %s or %s", text, Batched, Structured)
}

// SignatureHeader has the signature: sha256= and the HMAC of the body, before it
// is compressed, in hexadecimal digits.
const SignatureHeader = "X-Trued-Signature-256"

const (
	specVersion = "1.0"
	typePrefix  = "dev.trued."
	dataSchema  = report.SchemaID
)

// An envelope is a CloudEvent.
type envelope struct {
	SpecVersion string          `json:"specversion"`
	ID          string          `json:"id"`
	Source      string          `json:"source"`
	Type        string          `json:"type"`
	Subject     string          `json:"subject,omitempty"`
	Time        string          `json:"time,omitempty"`
	ContentType string          `json:"datacontenttype"`
	Schema      string          `json:"dataschema,omitempty"`
	Data        json.RawMessage `json:"data"`
}

// A Sink sends to one receiver.
type Sink struct {
	config Config
	client *post.Client
}

// New returns the sink.
func New(c Config) *Sink { return &Sink{c, post.New(c.Config)} }

// Name implements report.Sink.
func (s *Sink) Name() string { return Kind + ":" + s.client.URL() }

// Send implements report.Sink.
func (s *Sink) Send(ctx context.Context, events []report.Stored) (int, error) {
	if s.config.Mode != Structured {
		return s.client.Batch(ctx, events, s.batch, nil)
	}
	for i := range events {
		if _, err := s.client.Batch(ctx, events[i:i+1], s.single, nil); err != nil {
			return i, err
		}
	}
	return len(events), nil
}

func (s *Sink) batch(events []report.Stored) ([]byte, http.Header, error) {
	all := make([]envelope, 0, len(events))
	for _, e := range events {
		made, err := wrap(e.Event)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, made)
	}
	return s.encode(all, "application/cloudevents-batch+json")
}

func (s *Sink) single(events []report.Stored) ([]byte, http.Header, error) {
	made, err := wrap(events[0].Event)
	if err != nil {
		return nil, nil, err
	}
	return s.encode(made, "application/cloudevents+json")
}

// wrap puts an event into its envelope.
func wrap(event json.RawMessage) (envelope, error) {
	var e report.Event
	if err := json.Unmarshal(event, &e); err != nil || e.ID == "" || e.Type == "" {
		return envelope{}, &report.RefusedError{Err: fmt.Errorf("what is stored is no event: %.100q", event)}
	}
	made := envelope{
		SpecVersion: specVersion, ID: e.ID, Source: "urn:trued:host:" + e.HostID, Type: typePrefix + string(e.Type),
		Subject: e.Resource, Time: e.Time, ContentType: "application/json", Data: event,
	}
	if e.SchemaVersion == report.SchemaVersion {
		made.Schema = dataSchema
	}
	if e.HostID == "" {
		made.Source = "urn:trued"
	}
	return made, nil
}

func (s *Sink) encode(v any, contentType string) ([]byte, http.Header, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot encode events: %w", err)
	}
	header := http.Header{"Content-Type": {contentType + "; charset=UTF-8"}}
	if s.config.HMACKeyFile != "" {
		key, err := endpoint.Secret(s.config.HMACKeyFile)
		if err != nil {
			return nil, nil, fmt.Errorf("hmac_key_file: %w", err)
		}
		mac := hmac.New(sha256.New, key)
		mac.Write(body)
		header.Set(SignatureHeader, "sha256="+hex.EncodeToString(mac.Sum(nil)))
	}
	return body, header, nil
}
