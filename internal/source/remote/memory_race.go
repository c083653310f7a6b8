//go:build race

package remote

const boundsMemory = false
