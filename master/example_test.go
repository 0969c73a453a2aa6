package master_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	"baton/http/httpworker"
	"baton/master"
	"baton/worker"
	"baton/worker/echo"
)

// The smallest program, and it is complete. HUP reloads it, from the binary as it is then; INT and TERM stop it.
func ExampleMain() {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "hello") })
	os.Exit(master.Main(httpworker.Handler(mux), ":8080"))
}

// A program with a configuration of its own, which is loaded anew by every reload, and with several protocols in one
// process: the process of a Listen says who serves it.
func ExampleRun() {
	load := func(context.Context) (master.Config, error) {
		return master.Config{
			Workers: 4, DrainTimeout: time.Minute, Control: "/run/example.sock",
			Listen: []master.Listen{
				{Address: ":80", Process: "http"},
				{Address: ":7", Process: "echo"},
				{Address: ":7", Process: "echo", Transport: "udp"},
			},
		}, nil
	}
	os.Exit(master.Run(master.Options{Load: load, Version: "v1"}, worker.Group(
		httpworker.Handler(http.FileServer(http.Dir("/srv/www"))),
		worker.TCP{Process: echo.Process{}, Protocol: "echo"},
		worker.UDP{Process: echo.Process{}, Protocol: "echo"},
	)))
}
