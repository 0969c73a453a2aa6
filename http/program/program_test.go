package program

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// enough is longer than anything here takes.
const enough = 30 * time.Second

// TestMain makes this binary the programs that are run.
func TestMain(m *testing.M) {
	if play := plays[os.Getenv("PLAY")]; play != nil {
		play()
		os.Exit(0)
	}
	// Orphans of the instances come here, as they come to the supervisor.
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	os.Exit(m.Run())
}

// plays are programs, by their names.
var plays = map[string]func(){
	"good": func() { serve(http.HandlerFunc(whoami)) },
	"500": func() {
		serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Println("asked")
			w.WriteHeader(http.StatusInternalServerError)
		}))
	},
	"silent": func() { fmt.Println("here"); select {} },
	"dies": func() {
		fmt.Fprintln(os.Stderr, "Error: Cannot find module './routes'\n    at node:internal")
		os.Exit(3)
	},
	"daemon": func() { child("silent"); fmt.Println("forked") },
	"parent": func() { child("stubborn"); serve(http.HandlerFunc(whoami)) },
	"stubborn": func() {
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("here")
		serve(http.HandlerFunc(whoami))
	},
	"late": func() {
		<-time.After(300 * time.Millisecond)
		serve(http.HandlerFunc(whoami))
	},
	"loud": func() {
		fmt.Print(strings.Repeat("x", 1<<20), "\n\xff\x00binary\n", "end")
		_ = os.Stdout.Close()
		serve(http.HandlerFunc(whoami))
	},
}

func child(play string) {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "PLAY="+play, "PORT=", "SOCKET=")
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		panic(err)
	}
	_, _ = bufio.NewReader(out).ReadString('\n') // it plays
}

// serve listens as a program does that knows nothing of baton.
func serve(h http.Handler) {
	network, address := "tcp", "127.0.0.1:"+os.Getenv("PORT")
	if path := os.Getenv("SOCKET"); path != "" {
		network, address = "unix", path
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(http.Serve(ln, h))
}

func whoami(w http.ResponseWriter, r *http.Request) {
	_, _ = fmt.Fprintln(w, os.Getenv("BATON_SLOT"), os.Getenv("BATON_GENERATION"), os.Getenv("BATON_WORKERS"),
		r.Host, r.Header.Get("X-Forwarded-For"))
}

// records is a log that can be looked at.
type records struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *records) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *records) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// logger returns a log that tells f the lines of instances.
func logger(f func(line string)) *slog.Logger { return slog.New(lines{slog.DiscardHandler, f}) }

type lines struct {
	slog.Handler
	f func(string)
}

func (l lines) Enabled(context.Context, slog.Level) bool { return true }

func (l lines) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "line" {
			l.f(a.Value.String())
		}
		return true
	})
	return nil
}

func play(name string, change func(*Program)) *Program {
	p := &Program{Name: "web", Command: []string{os.Args[0]}, Env: map[string]string{"PLAY": name}}
	if change != nil {
		change(p)
	}
	return p
}

func launch(t *testing.T, p *Program) (*Instance, *records, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), enough)
	defer cancel()
	log := &records{}
	i, err := Launch(ctx, p, Place{Slot: 2, Generation: 3, Workers: 4}, slog.New(slog.NewTextHandler(log, nil)))
	if i != nil {
		t.Cleanup(i.Kill)
	}
	return i, log, err
}

func stop(t *testing.T, i *Instance, patience time.Duration) (killed bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	killed = i.Stop(ctx)
	if pids := slices.DeleteFunc(group(i.PID()), func(pid int) bool { return !isRunning(pid) }); len(pids) > 0 {
		t.Errorf("processes %v are left", pids)
	}
	return killed
}

// TestProgram: an instance on a port, on a socket, and one that is asked for its health; it is told who it is, and
// nothing else of baton's.
func TestProgram(t *testing.T) {
	t.Setenv("LISTEN_FDS", "1")
	t.Setenv("NOTIFY_SOCKET", "/nowhere")
	for name, change := range map[string]func(*Program){
		"port":        nil,
		"socket":      func(p *Program) { p.Env["SOCKET"] = "{socket}" },
		"health":      func(p *Program) { p.Health = "/health" },
		"late":        func(p *Program) { p.Env["PLAY"] = "late" },
		"placeholder": func(p *Program) { p.Command = append(p.Command, "{port}", "{slot}-{generation}") },
	} {
		t.Run(name, func(t *testing.T) {
			i, _, err := launch(t, play("good", change))
			if err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			i.program.newFront(i.dial, i.log).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
			if got := w.Body.String(); got != "2 3 4 example.com 192.0.2.1\n" {
				t.Errorf("%d %q", w.Code, got)
			}
			env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", i.PID()))
			if err != nil || bytes.Contains(env, []byte("LISTEN_FDS")) || bytes.Contains(env, []byte("NOTIFY_SOCKET")) {
				t.Errorf("%q %v", env, err)
			}
			if args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", i.PID())); name == "placeholder" &&
				!strings.HasSuffix(string(args), fmt.Sprintf("\x00%d\x002-3\x00", i.addr.port)) {
				t.Errorf("%q", args)
			}
			if stop(t, i, enough) {
				t.Error("it was killed")
			}
			if i.addr.network == "unix" {
				if _, err := os.Stat(i.addr.name); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the socket is left: %v", err)
				}
			}
		})
	}
}

// TestNeverReady: what an instance does instead of getting ready is said, with its last lines, and nothing is left of
// it.
func TestNeverReady(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Program)
		want   string
	}{
		"dies": {nil, "program web, slot 2: exited with status 3 before it was ready\n" +
			"  | Error: Cannot find module './routes'\n  |     at node:internal"},
		"daemon": {
			nil,
			"program web, slot 2: exited with status 0 before it was ready: a program must stay in the foreground\n " +
				" | forked",
		},
		"silent": {nil, "program web, slot 2: not ready in time: it does not listen"},
		"500":    {func(p *Program) { p.Health = "/up" }, "program web, slot 2: not ready in time: /up answers 500"},
		"none": {
			func(p *Program) { p.Command = []string{"/no/such/program"} },
			"program web, slot 2: fork/exec /no/such/program: no such file or directory",
		},
		"nowhere": {
			func(p *Program) { p.Dir = "/no/such/directory" },
			"program web, slot 2: chdir /no/such/directory: no such file or directory",
		},
	} {
		asked := 0
		t.Run(name, func(t *testing.T) {
			patience := enough
			if name == "silent" {
				patience = 300 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			log := logger(func(line string) {
				if line == "asked" { // and answered, when this is read for the second time
					asked++
				}
				if asked == 2 {
					cancel()
				}
			})
			i, err := Launch(ctx, play(name, tt.change), Place{Slot: 2}, log)
			if err == nil {
				i.Kill()
				t.Fatal("it is ready")
			}
			var e *ExitError
			if !errors.As(err, &e) || !strings.HasPrefix(e.Reason(), tt.want) {
				t.Errorf("%q, want %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q is more than a line", err)
			}
		})
	}
}

// TestStop: the stop signal ends an instance and its children; one that ignores it is killed.
func TestStop(t *testing.T) {
	for name, want := range map[string]bool{"good": false, "stubborn": true, "parent": true} {
		t.Run(name, func(t *testing.T) {
			i, _, err := launch(t, play(name, nil))
			if err != nil {
				t.Fatal(err)
			}
			patience := enough
			if want {
				patience = 300 * time.Millisecond
			}
			if killed := stop(t, i, patience); killed != want {
				t.Errorf("killed %v", killed)
			}
			<-i.Exited()
		})
	}
}

// TestOutput: lines become records whatever they are made of, and a closed output harms nobody.
func TestOutput(t *testing.T) {
	i, log, err := launch(t, play("loud", nil))
	if err != nil {
		t.Fatal(err)
	}
	stop(t, i, enough)
	got := log.String()
	if n := strings.Count(got, "program: output"); n != (1<<20+recordLimit-1)/recordLimit+2 {
		t.Errorf("%d records", n)
	}
	for _, want := range []string{
		"line=end", "stream=stdout", "program=web", fmt.Sprint("program_pid=", i.PID()), `\x00binary"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in the log: …%s", want, got[max(0, len(got)-400):])
		}
	}
	for line := range strings.Lines(got) {
		if len(line) > pieceLimit {
			t.Errorf("a record of %d bytes", len(line))
		}
	}
	if last := i.tail.last(); len(last) != 3 || last[2] != "end" {
		t.Errorf("%d lines are kept: %q", len(last), last[len(last)-1])
	}
}

// TestParentDies: an instance gets its stop signal when its worker is killed, in whatever state that was.
func TestParentDies(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	worker := exec.Command(os.Args[0])
	worker.Env = append(os.Environ(), "PLAY=worker")
	worker.Stdout = w
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	var pid int
	if _, err := fmt.Fscan(r, &pid); err != nil {
		t.Fatal(err)
	}
	_ = worker.Process.Kill()
	_ = worker.Wait()
	for { // it is this process's child now
		var ws unix.WaitStatus
		got, err := unix.Wait4(pid, &ws, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || got != pid || ws.Signal() != syscall.SIGTERM {
			t.Fatal(got, ws, err)
		}
		return
	}
}

func init() {
	plays["worker"] = func() {
		i, err := Launch(context.Background(), play("good", nil), Place{}, slog.New(slog.DiscardHandler))
		if err != nil {
			panic(err)
		}
		fmt.Println(i.PID())
		select {}
	}
}

// TestPort: a port is not the kernel's to give, not taken, and not given twice.
func TestPort(t *testing.T) {
	low, high := ephemeralPorts()
	seen := map[int]bool{}
	for range 100 {
		a, err := newPort()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(a.release)
		if seen[a.port] || a.port >= low && a.port <= high {
			t.Errorf("port %d", a.port)
		}
		seen[a.port] = true
	}
}

// TestForeignPort: a port that somebody else takes before the instance does not make it ready.
func TestForeignPort(t *testing.T) {
	i, err := Start(play("silent", nil), Place{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer i.Kill()
	ln, err := net.Listen("tcp", i.addr.name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	if err := i.AwaitReady(t.Context()); !errors.Is(err, errForeign) {
		t.Errorf("%v, want %v", err, errForeign)
	}
}

// TestRaw: the output of a program that is raw goes to the worker's own, by lines.
func TestRaw(t *testing.T) {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "PLAY=raw")
	var out bytes.Buffer
	c.Stdout = &out
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if !slices.Equal(lines, []string{"forked"}) {
		t.Errorf("%q", lines)
	}
}

func init() {
	plays["raw"] = func() {
		p := play("says", func(p *Program) { p.Raw = true })
		_, err := Launch(context.Background(), p, Place{}, slog.New(slog.DiscardHandler))
		if err == nil {
			panic("ready")
		}
	}
	plays["says"] = func() { _, _ = io.WriteString(os.Stdout, "forked\n") }
}

// TestRunnerDeathUnnoticed: what an instance refuses whose death nobody has noticed yet is for the next one.
func TestRunnerDeathUnnoticed(t *testing.T) {
	dead, _, err := launch(t, play("good", nil))
	if err != nil {
		t.Fatal(err)
	}
	next, _, err := launch(t, play("good", nil))
	if err != nil {
		t.Fatal(err)
	}
	r := newRunner(dead.program, dead.at, dead.log, dead)
	defer r.front.Close()
	dead.Kill()
	refused := make(chan struct{})
	answered := make(chan int)
	go func() {
		w := httptest.NewRecorder()
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			ConnectDone: func(_, _ string, err error) {
				if err != nil {
					close(refused)
				}
			},
		})
		r.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "POST", "/", strings.NewReader("body")))
		answered <- w.Code
	}()
	<-refused
	r.set(next)
	if code := <-answered; code != http.StatusOK {
		t.Errorf("the answer is %d", code)
	}
}

// TestRawIsNotRead: an instance does not wait for who reads its raw output; what is read are whole lines, and long ones
// are cut.
func TestRawIsNotRead(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "PLAY=unread")
	c.Stdout, c.Stderr = w, os.Stderr
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	out, err := io.ReadAll(r)
	if err != nil || len(out) == 0 {
		t.Fatal(len(out), err)
	}
	for line := range strings.Lines(string(out)) {
		if len(line) > pieceLimit || strings.Trim(line, "x") != "\n" && strings.HasSuffix(line, "\n") {
			t.Errorf("%d bytes: %q", len(line), line[:min(len(line), 40)])
			break
		}
	}
}

func init() {
	plays["unread"] = func() {
		p := play("loud", func(p *Program) { p.Raw = true })
		ctx, cancel := context.WithTimeout(context.Background(), enough)
		defer cancel()
		i, err := Launch(ctx, p, Place{}, slog.New(slog.DiscardHandler))
		if err != nil {
			panic(err)
		}
		i.Kill()
	}
}
