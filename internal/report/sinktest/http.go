package sinktest

import (
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"time"
)

// ServeHTTP serves a receiver over HTTP: it refuses when it is told to, takes a
// body's compression off, and leaves the rest to take, which answers.
func ServeHTTP(l net.Listener, r *Receiver, take http.HandlerFunc) {
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if status, later := r.Refusal(); status != 0 {
			w.Header().Set("Retry-After", later)
			w.Header().Set("Location", "http://127.0.0.1:1/")
			w.WriteHeader(status)
			return
		}
		body := io.Reader(req.Body)
		if req.Header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(req.Body)
			if err != nil {
				return // cut off
			}
			body = z
		}
		whole, err := io.ReadAll(body)
		if err != nil {
			return
		}
		req.Body = io.NopCloser(bytes.NewReader(whole))
		take(w, req)
	})}
	_ = server.Serve(l)
	_ = server.Close()
}
