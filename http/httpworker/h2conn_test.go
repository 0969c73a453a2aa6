package httpworker

import (
	"bytes"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
)

// sink is a socket that takes what is written.
type sink struct {
	*net.TCPConn
	bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error)       { return s.Buffer.Write(p) }
func (s *sink) WriteString(p string) (int, error) { return s.Buffer.WriteString(p) }
func (s *sink) Read([]byte) (int, error)          { panic("nobody reads") }
func (s *sink) ReadFrom(r interface{ Read([]byte) (int, error) }) (int64, error) {
	panic("nobody does")
}

// TestLastCallBetweenFrames: wherever Write is called and in whatever pieces, lastCall comes once, behind the first
// frame and not inside of any.
func TestLastCallBetweenFrames(t *testing.T) {
	var all []string
	for i := range 20 {
		all = append(all, frame(byte(i%10), 0, uint32(i), strings.Repeat("x", i*i%50)))
	}
	stream := strings.Join(all, "")
	for range 2000 {
		s := &sink{}
		h := &h2Conn{conn: &conn{}, to: s}
		when := rand.IntN(len(stream))
		announced := false
		for rest := stream; rest != ""; {
			if !announced && len(stream)-len(rest) >= when {
				h.sendGoAway()
				announced = true
			}
			n := 1 + rand.IntN(min(len(rest), 40))
			if m, err := h.Write([]byte(rest[:n])); m != n || err != nil {
				t.Fatalf("wrote %d of %d, %v", m, n, err)
			}
			rest = rest[n:]
		}
		if !announced {
			h.sendGoAway()
		}
		got := s.String()
		before, after, found := strings.Cut(got, goAwayFrames)
		if !found || before+after != stream {
			t.Fatalf("announced at %d of %d: %q", when, len(stream), got)
		}
		at, between := 0, false
		for _, f := range all {
			at += len(f)
			between = between || at == len(before)
		}
		if !between || before == "" {
			t.Fatalf("announced at %d, said at %d, which is inside of a frame", when, len(before))
		}
	}
}

// FuzzFrames: the end of a stream of frames is found, in whatever pieces it comes.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x00\x00\x05\x01\x04\x00\x00\x00\x01hello\x00\x00\x00\x04\x00\x00\x00\x00\x00"), 3)
	f.Fuzz(func(t *testing.T, stream []byte, piece int) {
		if piece < 1 || piece > 100 {
			return
		}
		var one, many frames
		count := func(fr *frames, p []byte) (ends int) {
			for len(p) > 0 {
				n, _, end := fr.take(p)
				if p = p[n:]; end {
					ends++
				}
			}
			return ends
		}
		want, got := count(&one, stream), 0
		for p := stream; len(p) > 0; p = p[min(piece, len(p)):] {
			got += count(&many, p[:min(piece, len(p))])
		}
		if got != want || one.left != many.left || one.have != many.have {
			t.Errorf("%d frames in one piece, %d in pieces of %d", want, got, piece)
		}
	})
}
