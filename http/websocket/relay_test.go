package websocket

import (
	"bytes"
	"strings"
	"testing"

	ws "github.com/coder/websocket"
)

// plain is a frame of a server.
func plain(first byte, payload string) string {
	return string([]byte{first, byte(len(payload))}) + payload
}

// TestMessages: the boundaries are found whatever pieces the bytes come in.
func TestMessages(t *testing.T) {
	long := strings.Repeat("x", 300)
	stream := plain(final|text, "one") + plain(text, "two, ") + plain(final|0x9, "ping") + plain(final|more, "and more") +
		"\x81\x7e\x01\x2c" + long + "\x82\x7f\x00\x00\x00\x00\x00\x00\x01\x2c" + long + plain(final|text, "") +
		masked(final|text, "masked") + plain(final|opClose, "\x03\xe8")
	for size := 1; size < 40; size++ {
		var m messages
		complete := 0
		for p := []byte(stream); len(p) > 0; p = p[min(size, len(p)):] {
			if n, done := m.follow(p[:min(size, len(p))], false); n != min(size, len(p)) {
				t.Fatal(n)
			} else if done {
				complete++
			}
		}
		if size == 1 && complete != 6 || !m.isBetween() {
			t.Errorf("in pieces of %d: %d messages, between %v", size, complete, m.isBetween())
		}
	}
	var m messages
	if n, done := m.follow([]byte(stream), true); n != 5 || !done {
		t.Errorf("the first message ends at %d, %v", n, done)
	}
}

// end is one end of a connection, of which only what is written matters.
type end struct{ bytes.Buffer }

func (*end) Close() error { return nil }

// TestFarewell: the close comes between two messages, and behind an answer that is owed.
func TestFarewell(t *testing.T) {
	goodbye := plain(final|opClose, "\x03\xf4restart")
	for name, tt := range map[string]struct {
		before, late bool // client's message before the close is wanted, and whether the answer is waited for no more
		down         string
		want         string
	}{
		"at rest":       {false, false, "", goodbye},
		"owed":          {true, false, "", ""},
		"answered":      {true, false, plain(final|text, "a") + plain(final|text, "b"), plain(final|text, "a") + goodbye},
		"half answered": {true, false, plain(text, "a"), plain(text, "a")},
		"not answered":  {true, true, "", goodbye},
	} {
		client, upstream := &end{}, &end{}
		r := &relay{client: client, upstream: upstream}
		if tt.before {
			if err := r.sendUp([]byte(masked(final|text, "question"))); err != nil {
				t.Fatal(err)
			}
		}
		r.close(ws.StatusServiceRestart, "restart", false)
		if tt.late {
			r.close(ws.StatusServiceRestart, "restart", true)
		}
		for _, b := range []byte(tt.down) {
			_ = r.sendDown([]byte{b})
		}
		if got := client.String(); got != tt.want {
			t.Errorf("%s: the client gets %q, want %q", name, got, tt.want)
		}
	}
	client := &end{}
	r := &relay{client: client, upstream: &end{}}
	_ = r.sendUp([]byte(masked(final|text, "question")))
	r.close(ws.StatusServiceRestart, "restart", false)
	_ = r.sendDown([]byte(plain(final|text, "a") + plain(final|text, "b")))
	if want := plain(final|text, "a") + goodbye; client.String() != want {
		t.Errorf("in one piece: %q, want %q", client, want)
	}
}
