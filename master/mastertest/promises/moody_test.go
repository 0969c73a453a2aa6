package promises_test

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"baton/master/mastertest"
)

// moody is a program of the library whose workers do what the files of its directory and its clients say. "hold" keeps
// a worker from being ready, "fail" makes it fail before; /eat takes 192 MB for good, /deadlock never gives a lock back
// that the worker's heartbeat wants, and /spin takes a CPU for good, without a moment at which Go could take it back if
// GODEBUG=asyncpreemptoff=1. Its configuration is config.json.
const moody = `package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"baton/http/httpworker"
	"baton/master"
	"baton/worker"
)

func main() {
	os.Exit(master.Run(master.Options{Load: load}, worker.Func(serve)))
}

func load(context.Context) (cfg master.Config, err error) {
	b, err := os.ReadFile("config.json")
	if err == nil {
		err = json.Unmarshal(b, &cfg)
	}
	return cfg, err
}

var (
	lock  sync.Mutex
	eaten [][]byte
)

func serve(ctx context.Context, env *worker.Env) error {
	for exists("hold") && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if exists("fail") {
		return errors.New("told to fail")
	}
	if os.Getenv("INLINE") != "" {
		return inline(env)
	}
	env.OnHeartbeat(func() { lock.Lock(); lock.Unlock() })
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, os.Getpid()) })
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Write(body)
	})
	mux.HandleFunc("/eat", func(w http.ResponseWriter, r *http.Request) {
		b := make([]byte, 192<<20)
		for i := range b {
			b[i] = 1
		}
		lock.Lock()
		defer lock.Unlock()
		eaten = append(eaten, b)
		fmt.Fprint(w, os.Getpid())
	})
	mux.HandleFunc("/deadlock", func(http.ResponseWriter, *http.Request) { lock.Lock(); select {} })
	mux.HandleFunc("/wait", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/spin", func(http.ResponseWriter, *http.Request) { for n := 0; ; n++ {} })
	return httpworker.Handler(mux).Serve(ctx, env)
}

// inline serves one connection after the other, on the goroutine that accepts.
func inline(env *worker.Env) error {
	ln, err := env.Listener(env.Sockets()[0].Name)
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
		for in := bufio.NewReader(c); ; {
			r, err := http.ReadRequest(in)
			if err != nil {
				break
			}
			if r.URL.Path == "/stuck" {
				select {}
			}
			pid := fmt.Sprint(os.Getpid())
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(pid), pid)
			if r.URL.Path == "/last" {
				break
			}
		}
		c.Close()
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
`

// inline makes its workers serve one connection after the other, each from a queue of its own; after /last a connection
// ends, and /stuck has no end.
const inline = "INLINE=1"

// startMoody starts it, with keys of master.Config.
func startMoody(tb testing.TB, config map[string]any, env ...string) (b *mastertest.Baton, address string) {
	tb.Helper()
	address = mastertest.FreePort(tb)
	config["Listen"] = []map[string]any{{"Address": address, "ReusePort": slices.Contains(env, inline)}}
	config["Control"] = "baton.sock"
	text, err := json.Marshal(config)
	if err != nil {
		tb.Fatal(err)
	}
	b = mastertest.Start(tb, mastertest.Options{
		Binary: mastertest.Build(tb, mastertest.BuildOptions{
			// or memory is another thing
			Package: "./master/zz_moody", Add: map[string]string{"main.go": moody}, NoRace: true,
		}),
		Args: []string{}, Files: map[string]string{"config.json": string(text)}, Env: env,
	})
	return b, address
}

// letGo removes a file that a moody worker obeys.
func letGo(tb testing.TB, b *mastertest.Baton, name string) {
	tb.Helper()
	if err := os.Remove(b.Path(name)); err != nil {
		tb.Fatal(err)
	}
}
