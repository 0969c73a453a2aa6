package worker_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"baton/worker"
	"baton/worker/echo"
)

// A Worker of one's own: the time of day, once for each connection. Listeners that come from env stop by themselves
// when the drain begins.
func ExampleFunc() {
	daytime := func(_ context.Context, env *worker.Env) error {
		ln, err := env.Listener(":13")
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
			_, _ = fmt.Fprintln(c, "high time")
			_ = c.Close()
		}
	}
	if worker.Spawned() { // master.Main(worker.Func(daytime), ":13") does both halves
		os.Exit(worker.Run(worker.Func(daytime)))
	}
}

// greeting asks for names, and remembers nothing between two lines: so its connections may move to the next generation
// there. Its greeting is said once, not by every generation.
type greeting struct{}

func (greeting) ServeConn(_ context.Context, c *worker.Conn) {
	if !c.Moved() {
		_, _ = fmt.Fprintln(c, "who are you?")
	}
	lines := bufio.NewReader(c)
	for {
		if lines.Buffered() == 0 {
			c.Idle()
		}
		name, err := lines.ReadString('\n')
		if err != nil {
			return // the client has closed, or the connection has moved
		}
		_, _ = fmt.Fprint(c, "hello, ", name)
	}
}

// A protocol of one's own, served on TCP. See cmd/baton-chat for a whole program.
func ExampleTCP() {
	var w worker.Worker = worker.TCP{Process: greeting{}} // for master.Main(w, ":7000")
	_ = w
}

// A Process needs no worker to be tried.
func ExampleConn() {
	ours, theirs := net.Pipe()
	go greeting{}.ServeConn(context.Background(), &worker.Conn{Conn: theirs})
	r := bufio.NewReader(ours)
	question, _ := r.ReadString('\n')
	_, _ = fmt.Fprintln(ours, "world")
	answer, _ := r.ReadString('\n')
	fmt.Print(question, answer)
	// Output:
	// who are you?
	// hello, world
}

// Several Workers in one process: each serves the sockets of its protocol.
func ExampleGroup() {
	w := worker.Group( // for master.Run
		worker.TCP{Process: echo.Process{}, Protocol: "echo"},
		worker.UDP{Process: echo.Process{}, Protocol: "echo"},
		worker.TCP{Process: greeting{}, Protocol: "greeting"},
	)
	_ = w
}
