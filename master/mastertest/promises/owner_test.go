package promises_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/status"
	"baton/master/mastertest"
)

// kept are connections that have had an answer, and some with a request that takes a second.
type kept struct {
	idle, busy []net.Conn
}

func keepSome(tb testing.TB, address string) kept {
	tb.Helper()
	k := kept{idle: connect(tb, address, 20), busy: connect(tb, address, 4)}
	if got := askAll(k.idle); got[served] != len(k.idle) {
		tb.Fatalf("before: %v", got)
	}
	for _, c := range k.busy {
		if _, err := io.WriteString(c, "GET /slow1 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			tb.Fatal(err)
		}
	}
	return k
}

// wantLast wants an answer on every connection, and Connection: close with the next one: that with a request has begun
// the answer before the drain.
func (k kept) wantLast(tb testing.TB) {
	tb.Helper()
	if got := askAll(k.idle); got[last] != len(k.idle) {
		tb.Errorf("idle connections: %v, want an answer and Connection: close for each of %d", got, len(k.idle))
	}
	for _, c := range k.busy {
		if got := readAnswer(c); got != served {
			tb.Errorf("a connection with a request: %v, want an answer", got)
		}
	}
	if got := askAll(k.busy); got[last] != len(k.busy) {
		tb.Errorf("busy connections: %v, want Connection: close for each of %d", got, len(k.busy))
	}
}

func readAnswer(c net.Conn) ends {
	_ = c.SetReadDeadline(time.Now().Add(mastertest.Timeout / 3))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	return endOf(resp, err)
}

// TestNobodyTakes: the edit leaves nobody who would take the connections of the old workers. They stay, are served once
// more, and are closed: none is silent, and no generation waits for them.
func TestNobodyTakes(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(b *mastertest.Baton, s site){
		"handover = false": func(b *mastertest.Baton, s site) {
			s.socket = "handover = false"
			b.WriteConfig(s.String())
		},
		"tls": func(b *mastertest.Baton, s site) {
			p := newPair(t, "one")
			b.WriteFile("cert.pem", p.cert)
			b.WriteFile("key.pem", p.key)
			s.socket = "transport = \"tls\"\ntls = { cert = \"cert.pem\", key = \"key.pem\" }"
			b.WriteConfig(s.String())
		},
		"another protocol": func(b *mastertest.Baton, s site) {
			s.socket = "process = \"echo\""
			b.WriteConfig(s.String())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := unwatchedSite(t)
			b := start(t, s)
			k := keepSome(t, s.listen[0])
			b.AwaitStatus("the requests", func(st mastertest.Status) bool { return active(st) == len(k.busy) })
			edit(b, s)
			b.Reload()
			b.AwaitStatus("the drain", func(st mastertest.Status) bool { // or its end
				return st.Generation == 2 && !slices.ContainsFunc(st.Workers, func(w status.Worker) bool {
					return w.Generation == 1 && w.State != "draining"
				})
			})
			k.wantLast(t)
			if st := b.AwaitSettled(); st.CutConnections+st.CutRequests != 0 || st.Handover.Kept != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

func active(st mastertest.Status) (n int) {
	for _, w := range st.Workers {
		n += int(w.Active)
	}
	return n
}

// TestNextProgramTakesNothing: a new binary, whose worker knows nothing of moving connections.
func TestNextProgramTakesNothing(t *testing.T) {
	t.Parallel()
	address := mastertest.FreePort(t)
	b := mastertest.Start(t, mastertest.Options{
		Binary: mastertest.BuildProgram(t, smallest), Args: []string{address},
		Env: []string{"BATON_CONTROL=baton.sock"},
	})
	k := keepSome(t, address)
	b.ReplaceBinary(mastertest.BuildProgram(t, ownWorker))
	b.Signal(unix.SIGHUP)
	b.AwaitStatus("the drain", func(st mastertest.Status) bool {
		return st.Generation == 2 && len(st.PIDs("draining")) > 0
	})
	k.wantLast(t)
	if st := b.AwaitSettled(); st.CutConnections+st.CutRequests != 0 {
		t.Errorf("%+v", st)
	}
}

// TestEchoStays: a protocol of one's own that does not move is spoken on where it is.
func TestEchoStays(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t)
	s.socket = "process = \"echo\""
	b := start(t, s)
	conns := connect(t, s.listen[0], 10)
	says := func() {
		for i, c := range conns {
			_ = c.SetDeadline(time.Now().Add(mastertest.Timeout / 3))
			want := fmt.Sprintf("message %d\n", i)
			got := make([]byte, len(want))
			if _, err := io.WriteString(c, want); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
				t.Fatalf("%q, %v", got, err)
			}
		}
	}
	says()
	s.socket += "\nhandover = false"
	b.WriteConfig(s.String())
	b.Reload()
	b.AwaitStatus("the drain", func(st mastertest.Status) bool { return len(st.PIDs("draining")) > 0 })
	says()
	says()
	for _, c := range conns {
		_ = c.Close()
	}
	if st := b.AwaitSettled(); st.CutConnections != 0 {
		t.Errorf("%+v", st)
	}
}

// TestTwoListenersOnAPort: each of two addresses on one port says for itself whether its connections move; in either
// order, and also when a worker drains without a reload.
func TestTwoListenersOnAPort(t *testing.T) {
	t.Parallel()
	for _, order := range []string{"first", "second"} {
		t.Run("the "+order+" stays", func(t *testing.T) {
			t.Parallel()
			s := unwatchedSite(t)
			moving := s.listen[0]
			_, port, _ := net.SplitHostPort(moving)
			staying := "127.0.0.2:" + port
			s.listen = nil
			if order == "first" {
				s = s.withListen(staying, "handover = false").withListen(moving)
			} else {
				s = s.withListen(moving).withListen(staying, "handover = false")
			}
			b := mastertest.Start(t, mastertest.Options{Config: s.String()})
			move, stay := connect(t, moving, 20), connect(t, staying, 20)
			for _, all := range [][]net.Conn{move, stay} {
				if got := askAll(all); got[served] != 20 {
					t.Fatalf("before: %v", got)
				}
			}
			b.Reload()
			b.AwaitStatus("the drain", func(st mastertest.Status) bool { return st.Handover.Taken == 20 })
			if got := askAll(move); got[served] != 20 {
				t.Errorf("those that move: %v", got)
			}
			if got := askAll(stay); got[last] != 20 {
				t.Errorf("those that stay: %v", got)
			}
			b.AwaitSettled()
			if r := b.CLI("resize", "1"); r.Code != 0 {
				t.Fatal(r)
			}
			b.AwaitStatus("one worker", func(st mastertest.Status) bool { return len(st.Workers) == 1 })
			if got := askAll(move); got[served] != 20 {
				t.Errorf("after a resize: %v", got)
			}
		})
	}
}

// TestNextGenerationDoesNotRead: the workers of the next generation are stopped, or killed, after COMMIT and before
// they take anything. Who is connected is answered by the old ones: after a moment, for the offers have to be
// withdrawn.
func TestNextGenerationDoesNotRead(t *testing.T) {
	t.Parallel()
	binary := mastertest.Build(t, mastertest.BuildOptions{Tags: []string{"batonsteps"}})
	for name, sig := range map[string]unix.Signal{"stopped": unix.SIGSTOP, "killed": unix.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := unwatchedSite(t)
			steps := mastertest.NewFailpoints(t)
			b := mastertest.Start(t, mastertest.Options{Config: s.String(), Binary: binary, Env: []string{steps.Env()}})
			conns := connect(t, s.listen[0], 40)
			if got := askAll(conns); got[served] != len(conns) {
				t.Fatalf("before: %v", got)
			}
			await := steps.HoldAt("flipped")
			b.Signal(unix.SIGHUP)
			held := await()
			for _, p := range b.Tree() {
				if p.PPID == held.PID {
					signal(t, p.PID, sig)
				}
			}
			held.Release()
			b.AwaitStatus("the drain", func(st mastertest.Status) bool { // or its end
				return st.Generation == 2 && !slices.ContainsFunc(st.Workers, func(w status.Worker) bool {
					return w.Generation == 1 && w.State != "draining"
				})
			})
			got := askAll(conns)
			if got[served]+got[last] != len(conns) || sig == unix.SIGSTOP && got[last] != len(conns) {
				t.Errorf("%v", got)
			}
			for _, w := range b.Status().PIDs("serving") {
				_ = unix.Kill(w, unix.SIGCONT)
			}
			b.AwaitSettled()
			again := connect(t, s.listen[0], 10)
			if got := askAll(again); got[served] != len(again) {
				t.Errorf("afterwards: %v", got)
			}
		})
	}
}
