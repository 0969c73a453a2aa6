package promises_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
)

// TestListenerComesBack: an address that has just left may return, though old workers still answer what was queued
// there.
func TestListenerComesBack(t *testing.T) {
	t.Parallel()
	one := unwatchedSite(t)
	two := one
	two.listen = append(two.listen[:1:1], mastertest.FreePort(t))
	b := start(t, two)
	for range 3 {
		b.WriteConfig(one.String())
		b.Reload()
		b.WriteConfig(two.String())
		b.Reload()
		if _, err := b.Whoami(two.listen[1]); err != nil {
			t.Error(err)
		}
	}
}

// TestListenerComesAndGoes: a new address is served after the reload; what was connected to one that goes is still
// answered, accepted or not, and then the port is closed.
func TestListenerComesAndGoes(t *testing.T) {
	t.Parallel()
	one := unwatchedSite(t)
	two := one
	two.listen = append(two.listen[:1:1], mastertest.FreePort(t))
	extra := two.listen[1]
	b := start(t, one)
	if err := mastertest.Bindable(extra); err != nil {
		t.Fatal(err)
	}
	clients := putLoad(t, one.listen[0], defaultLoad())

	b.WriteConfig(two.String())
	b.Reload()
	if w, err := b.Whoami(extra); err != nil || w.Generation != 2 {
		t.Errorf("the new address: %+v, %v", w, err)
	}
	st := b.AwaitSettled()

	slow := make(chan error, 1)
	go func() {
		text, err := b.Get(extra, "/slow1")
		if err == nil && text != "slow" {
			err = fmt.Errorf("answer %q", text)
		}
		slow <- err
	}()
	b.AwaitStatus("the slow request",
		func(st mastertest.Status) bool { return st.Workers[0].Active+st.Workers[1].Active > 0 })
	accepted := connect(t, extra, 10)
	for _, c := range accepted[:5] {
		ask(t, c)
	}
	// With the workers stopped, what connects now stays in the kernel's queue.
	for _, pid := range st.PIDs("") {
		signal(t, pid, unix.SIGSTOP)
	}
	queued := connect(t, extra, 10)
	for _, c := range queued[:5] {
		ask(t, c)
	}
	b.WriteConfig(one.String())
	r := b.StartCLI("reload")
	b.AwaitGeneration(3)
	for _, pid := range st.PIDs("") {
		signal(t, pid, unix.SIGCONT)
	}
	if r := r(); r.Code != 0 {
		t.Errorf("baton reload: %+v", r)
	}
	for i, c := range append(accepted, queued...) {
		if i%10 >= 5 {
			ask(t, c) // only now
		}
		if err := answered(c); err != nil {
			t.Errorf("connection %d: %v", i, err)
		}
		c.Close()
	}
	if err := <-slow; err != nil {
		t.Errorf("the slow request: %v", err)
	}
	mastertest.Await(t, mastertest.Text("the port to be free"),
		func() bool { return mastertest.Bindable(extra) == nil })
	if st := b.AwaitSettled(); len(st.Listeners) != 1 || st.CutConnections != 0 {
		t.Errorf("status %+v", st)
	}
	wantNoLoss(t, clients)
}

// connect makes n connections.
func connect(tb testing.TB, address string, n int) []net.Conn {
	tb.Helper()
	conns := make([]net.Conn, n)
	for i := range conns {
		c, err := net.Dial("tcp", address)
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { c.Close() })
		conns[i] = c
	}
	return conns
}

// ask sends a request.
func ask(tb testing.TB, c net.Conn) {
	tb.Helper()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		tb.Error(err)
	}
}

// answered reads the first line of an answer.
func answered(c net.Conn) error {
	_ = c.SetReadDeadline(time.Now().Add(mastertest.Timeout))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "HTTP/1.1 200 ") {
		err = fmt.Errorf("answer %q", line)
	}
	return err
}

// signal sends a signal to a process.
func signal(tb testing.TB, pid int, sig unix.Signal) {
	tb.Helper()
	if err := unix.Kill(pid, sig); err != nil {
		tb.Fatalf("%v to %d: %v", sig, pid, err)
	}
}
