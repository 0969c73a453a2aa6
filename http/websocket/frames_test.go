package websocket

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	ws "github.com/coder/websocket"

	"baton/worker/workertest"
)

// raw is a client that says what it likes.
type raw struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func dialRaw(t *testing.T, p *workertest.Process, extensions string) (*raw, *http.Response) {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(never))
	r := &raw{c, t, bufio.NewReader(c)}
	if extensions != "" {
		extensions = "Sec-WebSocket-Extensions: " + extensions + "\r\n"
	}
	r.send("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + extensions + "\r\n")
	resp, err := http.ReadResponse(r.r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	return r, resp
}

func (c *raw) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatal(err)
	}
}

// The first byte of a frame.
const (
	more       = 0x00
	text       = 0x01
	binaryData = 0x02
	final      = 0x80
	compressed = 0x40
)

// masked is a frame as a client sends it.
func masked(first byte, payload string) string {
	mask := [4]byte{0x12, 0xf4, 0x80, 0xff}
	b := []byte{first, maskBit | byte(len(payload))}
	if len(payload) > maxControl {
		b[1] = maskBit | 126
		b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	}
	b = append(b, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return string(b)
}

// frame reads a frame of the server.
func (c *raw) frame() (first byte, payload string) {
	c.t.Helper()
	var head [4]byte
	if _, err := io.ReadFull(c.r, head[:2]); err != nil {
		c.t.Fatal(err)
	}
	n := int(head[1])
	if n == 126 {
		if _, err := io.ReadFull(c.r, head[2:]); err != nil {
			c.t.Fatal(err)
		}
		n = int(binary.BigEndian.Uint16(head[2:]))
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(c.r, b); err != nil {
		c.t.Fatal(err)
	}
	return head[0], string(b)
}

func (c *raw) wantText(want string) {
	c.t.Helper()
	if first, got := c.frame(); first != final|text || got != want {
		c.t.Fatalf("frame %#x %q, want the text %q", first, got, want)
	}
}

// wantClose wants a close with a code, and then the end.
func (c *raw) wantClose(code ws.StatusCode) {
	c.t.Helper()
	first, got := c.frame()
	if first != final|opClose || len(got) < 2 || ws.StatusCode(binary.BigEndian.Uint16([]byte(got))) != code {
		c.t.Fatalf("frame %#x %q, want a close with %d", first, got, code)
	}
	_ = c.Conn.(*net.TCPConn).CloseWrite()
	if rest, err := io.ReadAll(c.r); err != nil || len(rest) > 0 {
		c.t.Errorf("behind the close: %q, %v", rest, err)
	}
}

// encodings are texts and whether they are UTF-8: those of Autobahn's sections 6.2 to 6.23.
var encodings = []struct {
	text  string
	valid bool
}{
	{"Hello-\u00b5@\u00df\u00f6\u00e4\u00fc\u00e0\u00e1-UTF-8!!", true},
	{"\u03ba\u1f79\u03c3\u03bc\u03b5", true},
	{"\x00", true},
	{"\u0080", true},
	{"\u0800", true},
	{"\U00010000", true},
	{"\x7f", true},
	{"\u07ff", true},
	{"\uffff", true},
	{"\U0010ffff", true},
	{"\ud7ff\ue000\ufffd\ufffe\ufeff", true},
	{"\u03ba\u1f79\u03c3\u03bc\u03b5\xf4\x90\x80\x80edited", false}, // beyond the last code point
	{"\u03ba\u1f79\u03c3\u03bc\u03b5\xed\xa0\x80edited", false},     // a surrogate
	{"\xf8\x88\x80\x80\x80", false},                                 // five bytes
	{"\xfc\x84\x80\x80\x80\x80", false},
	{"\xf7\xbf\xbf\xbf", false},
	{"\x80", false}, // continuations without a beginning
	{"\xbf", false},
	{"\x80\xbf\x80\xbf", false},
	{"\xc0\x20\xc1\x20", false}, // beginnings without continuations
	{"\xe0 \xe1 ", false},
	{"\xf0 \xf1 ", false},
	{"\xc0", false}, // the end is missing
	{"\xe0\x80", false},
	{"\xf0\x80\x80", false},
	{"\xce", false},
	{"\xce\xba\xe1", false},
	{"\xfe", false},
	{"\xff", false},
	{"\xfe\xfe\xff\xff", false},
	{"\xc0\xaf", false}, // longer than need be
	{"\xe0\x80\xaf", false},
	{"\xf0\x80\x80\xaf", false},
	{"\xc1\xbf", false},
	{"\xe0\x9f\xbf", false},
	{"\xf0\x8f\xbf\xbf", false},
	{"\xed\xa0\x80", false},
	{"\xed\xad\xbf\xed\xb0\x80", false},
}

// TestTextIsUTF8: a text comes back if it is UTF-8, in whatever fragments, and else the connection is closed with 1007.
// The reason of a close must be UTF-8, too. Of binary messages nobody asks that.
func TestTextIsUTF8(t *testing.T) {
	p := start(t, Echo())
	for _, tt := range encodings {
		last := len(tt.text) - 1
		for how, message := range map[string]string{
			"whole":     masked(final|text, tt.text),
			"bytes":     masked(text, tt.text[:1]) + fragments(tt.text[1:]),
			"with ping": masked(text, tt.text[:last]) + masked(final|0x9, "") + masked(final|more, tt.text[last:]),
		} {
			c, _ := dialRaw(t, p, "")
			c.send(masked(final|text, "before") + message)
			c.wantText("before")
			if how == "with ping" {
				c.frame()
			}
			if tt.valid {
				c.wantText(tt.text)
			} else {
				c.wantClose(ws.StatusInvalidFramePayloadData)
			}
			_ = c.Close()
		}
		c, _ := dialRaw(t, p, "")
		c.send(masked(final|binaryData, tt.text))
		if first, got := c.frame(); first != final|binaryData || got != tt.text {
			t.Errorf("binary %q: %#x %q", tt.text, first, got)
		}
		c.send(masked(final|opClose, "\x03\xe8"+tt.text))
		if tt.valid {
			c.wantClose(ws.StatusNormalClosure)
		} else {
			c.wantClose(ws.StatusInvalidFramePayloadData)
		}
	}
}

// fragments is the rest of a message, a byte in each.
func fragments(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteString(masked(more, s[i:i+1]))
	}
	return b.String() + masked(final|more, "")
}

func TestWrongFrames(t *testing.T) {
	p := start(t, Echo())
	for name, tt := range map[string]struct {
		frame string
		code  ws.StatusCode
	}{
		"not masked":       {"\x81\x05hello", ws.StatusProtocolError},
		"not masked ping":  {"\x89\x00", ws.StatusProtocolError},
		"not masked close": {"\x88\x02\x03\xe8", ws.StatusProtocolError},
		"length 2^64-1":    {"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\x12\x34\x56\x78", ws.StatusProtocolError},
		"length 2^63":      {"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00\x12\x34\x56\x78", ws.StatusProtocolError},
		"reserved bit":     {masked(final|text|0x20, "x"), ws.StatusProtocolError},
		"unknown opcode":   {masked(final|0x3, "x"), ws.StatusProtocolError},
		"long ping":        {masked(final|0x9, strings.Repeat("x", 126)), ws.StatusProtocolError},
		"split ping":       {masked(0x9, "x"), ws.StatusProtocolError},
		"close of 1 byte":  {masked(final|opClose, "x"), ws.StatusProtocolError},
		"close with 1005":  {masked(final|opClose, "\x03\xed"), ws.StatusProtocolError},
		"long close":       {masked(final|opClose, "\x03\xe8"+strings.Repeat("\xff", 124)), ws.StatusProtocolError},
	} {
		for _, pieces := range []bool{false, true} {
			t.Run(fmt.Sprint(name, pieces), func(t *testing.T) {
				c, _ := dialRaw(t, p, "")
				_ = c.Conn.(*net.TCPConn).SetNoDelay(true)
				all := masked(final|text, "before") + tt.frame
				if pieces {
					for i := range len(all) {
						if _, err := io.WriteString(c, all[i:i+1]); err != nil {
							break
						}
					}
				} else {
					c.send(all)
				}
				c.wantText("before")
				first, got := c.frame()
				if first != final|opClose || len(got) < 2 ||
					ws.StatusCode(binary.BigEndian.Uint16([]byte(got))) != tt.code {
					t.Errorf("frame %#x %q, want a close with %d", first, got, tt.code)
				}
			})
		}
	}
}

// TestCompression: what browsers offer is negotiated, and works in both directions.
func TestCompression(t *testing.T) {
	p := start(t, Echo())
	for _, offer := range []string{
		"permessage-deflate", "permessage-deflate; client_max_window_bits",
		"permessage-deflate; client_no_context_takeover; server_no_context_takeover",
	} {
		c, resp := dialRaw(t, p, offer)
		if got := resp.Header.Get("Sec-WebSocket-Extensions"); !strings.HasPrefix(got, "permessage-deflate") ||
			!strings.Contains(got, "client_no_context_takeover") ||
			!strings.Contains(got, "server_no_context_takeover") {
			t.Errorf("%s: %q", offer, got)
		}
		message := strings.Repeat("hello ", 300)
		for range 2 {
			c.send(masked(final|compressed|text, deflate(t, message)))
			first, got := c.frame()
			if first != final|compressed|text || len(got) > 100 || inflate(t, got) != message {
				t.Fatalf("%s: %#x %q", offer, first, got)
			}
		}
		c.send(masked(final|compressed|text, deflate(t, message+"\xff")))
		c.wantClose(ws.StatusInvalidFramePayloadData)
	}
	c, _ := dialRaw(t, p, "permessage-deflate")
	bomb := deflate(t, strings.Repeat("x", 2*maxMessage))
	c.send(masked(final|compressed|text, bomb))
	c.wantClose(ws.StatusMessageTooBig)
}

const flateTail = "\x00\x00\xff\xff"

func deflate(t *testing.T, s string) string {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err == nil {
		_, _ = io.WriteString(w, s)
		err = w.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(b.String(), flateTail)
}

func inflate(t *testing.T, s string) string {
	t.Helper()
	b, err := io.ReadAll(flate.NewReader(strings.NewReader(s + flateTail + "\x01\x00\x00\xff\xff")))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// FuzzFrames: how frames come in pieces changes nothing.
func FuzzFrames(f *testing.F) {
	f.Add([]byte(masked(final|text, "hello")+masked(final|opClose, "\x03\xe8bye")), uint8(3))
	f.Add([]byte(masked(final|opClose, "\x03\xe8\xff")), uint8(1))
	f.Add([]byte("\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\x12\x34\x56\x78"), uint8(2))
	f.Fuzz(func(t *testing.T, input []byte, size uint8) {
		var whole, cut frames
		n, wrong := whole.follow(input)
		if n > len(input) || wrong == 0 && n != len(input) {
			t.Fatalf("%d of %d bytes, %d", n, len(input), wrong)
		}
		m := 0
		for rest := input; len(rest) > 0; {
			piece := rest[:min(len(rest), int(size)+1)]
			k, w := cut.follow(piece)
			if m += k; w != 0 {
				if w != wrong || m != n {
					t.Errorf("in pieces %d at %d, whole %d at %d", w, m, wrong, n)
				}
				return
			}
			rest = rest[len(piece):]
		}
		if wrong != 0 {
			t.Errorf("in pieces nothing is wrong, whole %d at %d", wrong, n)
		}
	})
}
