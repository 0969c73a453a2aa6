//go:build race

package mastertest

// Race says that this test runs with the race detector; then so do the binaries that it builds.
const Race = true
