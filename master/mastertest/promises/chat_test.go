package promises_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
)

// TestChatSurvivesReloads: the example of a protocol of one's own. Its connections live through reloads, and what was
// typed of a line before one is not lost.
func TestChatSurvivesReloads(t *testing.T) {
	t.Parallel()
	address := mastertest.FreePort(t)
	b := mastertest.Start(t, mastertest.Options{
		Binary: mastertest.Build(t, mastertest.BuildOptions{Package: "./cmd/baton-chat"}),
		Args:   []string{address}, Env: []string{"BATON_CONTROL=baton.sock"},
	})
	ann, bob := newGuest(t, address), newGuest(t, address)
	ann.types("hello\n")
	ann.types("\n")
	ann.reads("hello")
	for i := range 5 {
		bob.types("I was in the middle of ")
		b.Signal(unix.SIGHUP)
		b.AwaitGeneration(i + 2)
		bob.types(fmt.Sprintf("line %d\n\n", i))
		bob.reads("hello")
		for j := range i + 1 {
			bob.reads(fmt.Sprintf("I was in the middle of line %d", j))
		}
		b.AwaitSettled() // bob has moved now, too
	}
	ann.types("\n")
	ann.reads("hello")
	if st := b.AwaitSettled(); st.CutConnections+st.CutRequests != 0 || st.Crashes != 0 {
		t.Errorf("status %+v", st)
	}
}

// guest is somebody in the chat room, on one connection.
type guest struct {
	tb testing.TB
	c  net.Conn
	r  *bufio.Reader
}

func newGuest(tb testing.TB, address string) guest {
	tb.Helper()
	c := connect(tb, address, 1)[0]
	_ = c.SetDeadline(time.Now().Add(2 * mastertest.Timeout))
	return guest{tb, c, bufio.NewReader(c)}
}

func (p guest) types(text string) {
	p.tb.Helper()
	if _, err := io.WriteString(p.c, text); err != nil {
		p.tb.Fatal(err)
	}
}

func (p guest) reads(line string) {
	p.tb.Helper()
	if got, err := p.r.ReadString('\n'); err != nil || got != line+"\n" {
		p.tb.Fatalf("read %q, %v, want %q", got, err, line)
	}
}
