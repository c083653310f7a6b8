//go:build !race

package remote

// boundsMemory is false where the race detector maps more than any limit allows.
const boundsMemory = true
