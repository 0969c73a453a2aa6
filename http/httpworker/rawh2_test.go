package httpworker

import (
	"io"
	"testing"
	"time"
)

// rawH2 reads the frames of a connection that a test writes by hand.
type rawH2 struct {
	*client
	seen map[byte]bool // types of frames
}

const (
	frameData         = 0x0
	frameSettingsType = 0x4
	frameGoAway       = 0x7

	flagEndStream = 0x1
)

// rawGet is the header of a GET request, by names and values of HPACK's table: GET, http, /, and an authority.
const rawGet = "\x82\x86\x84\x41\x01h"

func frame(kind, flags byte, stream uint32, payload string) string {
	n := len(payload)
	return string([]byte{
		byte(n >> 16), byte(n >> 8), byte(n), kind, flags, byte(stream >> 24), byte(stream >> 16), byte(stream >> 8),
		byte(stream),
	}) + payload
}

// await reads frames up to one of this kind, and returns its payload.
func (f *rawH2) await(kind byte, stream uint32) string {
	f.t.Helper()
	if f.seen == nil {
		f.seen = map[byte]bool{}
	}
	for {
		var head [frameHead]byte
		if _, err := io.ReadFull(f.r, head[:]); err != nil {
			f.t.Fatalf("while waiting for frame %d: %v", kind, err)
		}
		payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
		if _, err := io.ReadFull(f.r, payload); err != nil {
			f.t.Fatal(err)
		}
		f.seen[head[3]] = true
		if head[3] == kind && uint32(head[7])<<8|uint32(head[8]) == stream {
			return string(payload)
		}
	}
}

// waitFor waits for what must come.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	end := time.After(never)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-end:
			t.Fatal("it did not come")
		case <-tick.C:
		}
	}
}
