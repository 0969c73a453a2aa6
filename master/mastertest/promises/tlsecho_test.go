package promises_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
)

// TestTLSEchoGoesOn: a Process over TLS. Its connection cannot move, so it goes on in the generation that it came to,
// over several reloads, and new ones come to the newest. Half a message before a reload and half behind it are one.
func TestTLSEchoGoesOn(t *testing.T) {
	t.Parallel()
	p := newPair(t, "echo")
	address := mastertest.FreePort(t)
	s := unwatchedSite(t).withListen(address, `transport = "tls"`, `process = "echo"`,
		`tls = { cert = "cert.pem", key = "key.pem" }`)
	b := mastertest.Start(t, mastertest.Options{
		Config: s.String(), Files: map[string]string{"cert.pem": p.cert, "key.pem": p.key},
	})
	dial := func() *tls.Conn {
		t.Helper()
		c, err := tls.Dial("tcp", address, p.client())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(2 * mastertest.Timeout))
		return c
	}
	var all []*tls.Conn
	for i := range 4 {
		all = append(all, dial())
		for j, c := range all {
			half(t, c, fmt.Sprintf("%d to %d, ", i, j))
		}
		b.Signal(unix.SIGHUP)
		b.AwaitGeneration(i + 2)
		for _, c := range all {
			half(t, c, "and on\n")
		}
	}
	for _, c := range all {
		_ = c.CloseWrite()
		if rest, err := io.ReadAll(c); len(rest) != 0 || err != nil {
			t.Errorf("%q, %v at the end", rest, err)
		}
		_ = c.Close()
	}
	if st := b.AwaitSettled(); st.CutConnections+st.CutRequests != 0 || st.Crashes != 0 {
		t.Errorf("status %+v", st)
	}
}

// half says something, which may be half of something, and wants to hear it.
func half(t *testing.T, c *tls.Conn, words string) {
	t.Helper()
	if _, err := io.WriteString(c, words); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(words))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != words {
		t.Fatalf("%q, %v, want %q", got, err, words)
	}
}
