package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"baton/master"
)

// variant is a program that a walk installs in the place of baton.
type variant struct {
	name   string
	source string // of a program of the library; empty: cmd/baton in that version
	serves func(*listener) bool
	moves  bool // it hands connections over
}

// programs are all variants; the first one is what a walk begins with.
func programs() []variant {
	everything := func(*listener) bool { return true }
	http := func(l *listener) bool { return l.Transport == "tcp" && l.Process == "http" }
	lines := func(l *listener) bool { return l.Transport == "tcp" && l.Process == "echo" }
	return []variant{
		{"v1", "", everything, true},
		{"v2", "", everything, true},
		{"v3", "", everything, true},
		{"handler", handlerSource, http, true},
		{"func", funcSource, http, false},
		{"slow", slowSource, http, true},
		{"lines", linesSource, lines, true},
	}
}

func variantOf(name string) variant {
	all := programs()
	if i := slices.IndexFunc(all, func(v variant) bool { return v.name == name }); i >= 0 {
		return all[i]
	}
	return all[0]
}

// serves reports whether a program serves a listener.
func serves(program string, l *listener) bool { return variantOf(program).serves(l) }

// foreign reports whether a program is one of the library, which reads walk.json.
func foreign(program string) bool { return variantOf(program).source != "" }

// build makes all programs. It is run in the root of the module; a program of the library is there for the compiler
// only.
func build(bin string, race bool) error {
	for _, v := range programs() {
		args := []string{"build", "-o", filepath.Join(bin, v.name), "-ldflags", "-X main.version=" + v.name}
		folder := "./cmd/baton"
		if v.source != "" {
			folder = "./scripts/internal/zz_" + v.name
			list, err := overlay(bin, folder, commonSource+v.source)
			if err != nil {
				return err
			}
			args = append(args, "-overlay", list)
		}
		env := "CGO_ENABLED=0"
		if race {
			args, env = append(args, "-race"), "CGO_ENABLED=1"
		}
		cmd := exec.Command("go", append(args, folder)...)
		cmd.Env = append(os.Environ(), env)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", v.name, err, out)
		}
	}
	return nil
}

// overlay writes the source of a program, and the list by which the go command finds it in a folder.
func overlay(bin, folder, source string) (list string, err error) {
	root, err := os.Getwd()
	if err != nil {
		return "", err
	}
	file := filepath.Join(bin, filepath.Base(folder)+".go")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(root, folder, "main.go"): file}})
	if err != nil {
		return "", err
	}
	return file + ".json", os.WriteFile(file+".json", text, 0o600)
}

// settings are what walk.json says to a program of the library.
type settings struct {
	master.Config
	RunAs string
}

// settings says the same to a program of the library as the file does to baton.
func (s *shape) settings(real ports) string {
	c := settings{Config: master.Config{
		Workers: s.get("workers"), DrainTimeout: s.seconds("drain_timeout"), StopTimeout: s.seconds("stop_timeout"),
		ReadyTimeout: s.seconds("ready_timeout"), HangTimeout: s.seconds("hang_timeout"),
		MaxGenerations: s.get("max_generations"),
		MaxRequests:    s.get("max_requests"), MaxAge: s.seconds("max_age"),
		MaxMemory:      int64(s.get("max_memory")) << 20,
		MaxConnections: s.get("max_connections"), Payload: fmt.Append(nil, s.Edit),
		Control: "baton.sock", PIDFile: "b.pid", LogFile: "b.log",
	}}
	if s.get("watch") != 0 {
		c.Watch = []string{"walk.json"}
	}
	if s.get("user") != 0 {
		c.RunAs = "65534"
	}
	for i, l := range s.Listen {
		if l != nil {
			c.Listen = append(c.Listen, master.Listen{
				Name: name(i), Address: l.address(real), Transport: l.Transport, Process: l.Process,
				ReusePort: l.ReusePort, NoHandover: l.NoHandover,
			})
		}
	}
	b, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(b)) + "\n"
}

// drain is how long lingering connections have.
func (s *shape) drain() time.Duration { return s.seconds("drain_timeout") }

const commonSource = `package main

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
	"baton/worker/echo"
)

var version = "dev"

var ( // each program uses some of these
	_ = bufio.NewReader
	_ = net.ErrClosed
	_ = errors.Is
	_ = httpworker.Handler
	_ sync.WaitGroup
	_ time.Duration
	_ echo.Process
)

func main() {
	os.Exit(master.Run(master.Options{Load: load, Version: version}, theWorker()))
}

type settings struct {
	master.Config
	RunAs string
}

func load(context.Context) (master.Config, error) {
	var s settings
	b, err := os.ReadFile("walk.json")
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err == nil && s.RunAs != "" {
		s.User, err = master.LookupUser(s.RunAs, s.RunAs)
	}
	return s.Config, err
}

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, "{\"pid\":%d,\"version\":%q}", os.Getpid(), version)
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			w.Write(body)
		}
	})
	return mux
}
`

const handlerSource = `
func theWorker() worker.Worker { return httpworker.Handler(handler()) }
`

// slowSource takes a second until it is ready.
const slowSource = `
func theWorker() worker.Worker {
	return worker.Func(func(ctx context.Context, env *worker.Env) error {
		time.Sleep(time.Second)
		return httpworker.Handler(handler()).Serve(ctx, env)
	})
}
`

const linesSource = `
func theWorker() worker.Worker { return worker.TCP{Process: echo.Process{}, Protocol: "echo"} }
`

// funcSource speaks HTTP by itself, as a program would that knows nothing of handing over: when it drains, the next
// answer on each connection is the last.
const funcSource = `
func theWorker() worker.Worker { return worker.Func(serve) }

func serve(ctx context.Context, env *worker.Env) error {
	var all sync.WaitGroup
	for _, s := range env.Sockets() {
		if s.Transport != "tcp" || s.Process != "http" {
			continue
		}
		ln, err := env.Listener(s.Name)
		if err != nil {
			return err
		}
		all.Go(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				all.Go(func() { serveConn(ctx, c) })
			}
		})
	}
	env.Ready()
	all.Wait()
	return nil
}

func serveConn(ctx context.Context, c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if r.Header.Get("Expect") != "" {
			io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if r.URL.Path != "/echo" {
			body = fmt.Appendf(nil, "{\"pid\":%d,\"version\":%q}", os.Getpid(), version)
		}
		last := ""
		if r.Close || ctx.Err() != nil {
			last = "Connection: close\r\n"
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%s", last)
		fmt.Fprintf(c, "Content-Length: %d\r\n\r\n%s", len(body), body)
		if last != "" {
			return
		}
	}
}
`
