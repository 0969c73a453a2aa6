package promises_test

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
)

// smallest is the program of the README, with a port that is free.
const smallest = `package main

import (
	"fmt"
	"net/http"
	"os"

	"baton/http/httpworker"
	"baton/master"
)

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello from ", os.Getpid()) })
	os.Exit(master.Main(httpworker.Handler(mux), os.Args[1:]...))
}
`

// ownWorker is a Worker of one's own: it says hello, and closes.
const ownWorker = `package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"

	"baton/master"
	"baton/worker"
)

func main() { os.Exit(master.Main(worker.Func(hello), os.Args[1])) }

func hello(_ context.Context, env *worker.Env) error {
	ln, err := env.Listener(os.Args[1])
	if err != nil {
		return err
	}
	env.Ready()
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		http.ReadRequest(bufio.NewReader(c)) // a close with unread bytes would reset the connection
		fmt.Fprintf(c, "HTTP/1.0 200 OK\r\n\r\nhello from %d", os.Getpid())
		c.Close()
	}
}
`

// TestLibraryPrograms: a program that calls master.Main is complete. It serves, reloads without a change of its PID,
// and stops.
func TestLibraryPrograms(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]string{"smallest": smallest, "a Worker of one's own": ownWorker} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := mastertest.FreePort(t)
			b := mastertest.Start(t, mastertest.Options{
				Binary: mastertest.BuildProgram(t, source), Args: []string{address},
				Env: []string{"BATON_CONTROL=baton.sock"},
			})
			supervisor := b.PID()
			for generation := 1; generation <= 4; generation++ {
				st := b.AwaitSettled()
				if st.Generation != generation || st.SupervisorPID != supervisor || st.Crashes != 0 {
					t.Errorf("generation %d: status %+v", generation, st)
				}
				if text, err := b.Get(address, "/"); err != nil || !fromOneOf(text, st.PIDs("")) {
					t.Errorf("generation %d, workers %v: %q, %v", generation, st.PIDs(""), text, err)
				}
				b.Signal(unix.SIGHUP)
				b.AwaitGeneration(generation + 1)
			}
			b.Reinstall()
			b.Signal(unix.SIGHUP)
			b.AwaitStatus("the supervisor to follow",
				func(st mastertest.Status) bool { return st.Generation == 6 && st.Reexecuted() })
			b.Signal(unix.SIGHUP)
			if st := b.AwaitGeneration(7); st.SupervisorPID != supervisor || len(st.Warnings) > 0 {
				t.Errorf("%+v", st)
			}
			b.Stop()
		})
	}
}

func fromOneOf(text string, pids []int) bool {
	for _, pid := range pids {
		if text == fmt.Sprint("hello from ", pid) {
			return true
		}
	}
	return false
}
