package promises_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"baton/master/mastertest"
)

// TestHalfBodiesLeaveRoom: more bodies that do not go on than there is room for connections keep a good client out only
// until body_timeout.
func TestHalfBodiesLeaveRoom(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t).with("max_connections = 50")
	s.routes = "[http]\nbody_timeout = \"500ms\"\n"
	start(t, s)
	var half []net.Conn
	for _, path := range []string{"/echo", "/text", "/"} {
		for range 40 {
			c := keep(t, s.listen[0])
			if _, err := io.WriteString(c,
				"POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n1"); err != nil {
				t.Fatal(err)
			}
			half = append(half, c)
		}
	}
	if err := keep(t, s.listen[0]).ask("/text"); err != nil {
		t.Errorf("a good client: %v", err)
	}
	for i, c := range half { // each of them ends
		if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("half body %d: %v", i, err)
		}
	}
}

// TestClientThatDoesNotRead: it is closed after send_timeout. One that reads slowly gets all.
func TestClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	const size = 64 << 20
	s := unwatchedSite(t)
	s.routes = "[http]\nsend_timeout = \"1s\"\n[[route]]\npath = \"/files\"\nstatic = \".\"\n"
	b := mastertest.Start(t, mastertest.Options{Config: s.String(), Files: map[string]string{"large": ""}})
	if err := os.Truncate(b.Path("large"), size); err != nil {
		t.Fatal(err)
	}
	const request = "GET /files/large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	slow, deaf := keep(t, s.listen[0]), keep(t, s.listen[0])
	for _, c := range []*keptClient{slow, deaf} {
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
	}
	resp, err := http.ReadResponse(slow.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := int64(0)
	closed := func(st mastertest.Status) bool { return st.Workers[0].Connections+st.Workers[1].Connections == 1 }
	for range 8 { // in sum longer than the limit
		n, err := io.CopyN(io.Discard, resp.Body, 1<<20)
		if got += n; err != nil {
			t.Fatalf("the slow client has %d bytes: %v", got, err)
		}
		<-time.After(250 * time.Millisecond)
	}
	b.AwaitStatus("the client that does not read is closed, the other one is not", closed)
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || got+n != size {
		t.Errorf("the slow client has %d bytes: %v", got+n, err)
	}
}
