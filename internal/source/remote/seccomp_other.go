//go:build linux && !amd64 && !arm64

package remote

// forbidCalls knows the numbers of two architectures alone.
func forbidCalls() error { return nil }
