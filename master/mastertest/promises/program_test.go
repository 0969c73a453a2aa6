package promises_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
	"baton/scripts/load"
)

// foreign is somebody else's server, which knows nothing of baton. It says what it finds in the file "version" of its
// working directory, and does what that says.
const foreign = `package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/coder/websocket"
)

var eaten []byte

func main() {
	b, err := os.ReadFile("version")
	version := strings.TrimSpace(string(b))
	if err != nil || version == "broken" {
		fmt.Fprintln(os.Stderr, "Error: no good version:", version, err)
		os.Exit(3)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, version) })
	mux.HandleFunc("/pid", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, os.Getpid()) })
	mux.HandleFunc("/eat", func(w http.ResponseWriter, r *http.Request) {
		eaten = make([]byte, 256<<20)
		for i := range eaten {
			eaten[i] = 1
		}
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Write(b)
	})
	mux.HandleFunc("/ws", echo)
	srv := &http.Server{Handler: http.StripPrefix(os.Getenv("PREFIX"), mux)}
	network, address := "tcp", "127.0.0.1:"+os.Getenv("PORT")
	if len(os.Args) > 1 {
		network, address = "unix", os.Args[1]
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
	if version == "stubborn" {
		signal.Ignore(syscall.SIGTERM)
	} else {
		go func() {
			term := make(chan os.Signal, 1)
			signal.Notify(term, syscall.SIGTERM)
			<-term
			srv.Shutdown(context.Background())
			os.Exit(0)
		}()
	}
	fmt.Println(srv.Serve(ln))
	select {}
}

// echo is a WebSocket.
func echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	for err == nil {
		var kind websocket.MessageType
		var text []byte
		if kind, text, err = c.Read(r.Context()); err == nil {
			err = c.Write(r.Context(), kind, text)
		}
	}
}
`

// programSite is a site all of whose answers come from the foreign program, in the directory that "current" links to.
func programSite(tb testing.TB, more ...string) mastertest.Options {
	tb.Helper()
	app := mastertest.BuildProgram(tb, foreign)
	config := fmt.Sprintf(`workers = 2
watch = false
%s
[[listen]]
address = %q
[[program]]
name = "web"
command = [%q]
dir = "current"
[[route]]
path = "/"
program = "web"
`, strings.Join(more, "\n"), mastertest.FreePort(tb), app)
	return mastertest.Options{
		Config: config,
		Files: map[string]string{
			"v1/version": "one", "broken/version": "broken", "stubborn/version": "stubborn",
		},
		Links: map[string]string{"current": "v1"},
	}
}

// deploy makes "current" another directory, as deployments do.
func deploy(tb testing.TB, b *mastertest.Baton, dir string) {
	tb.Helper()
	if err := os.Symlink(dir, b.Path("next")); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(b.Path("next"), b.Path("current")); err != nil {
		tb.Fatal(err)
	}
}

func addressOf(opts mastertest.Options) string {
	_, rest, _ := strings.Cut(opts.Config, `address = "`)
	address, _, _ := strings.Cut(rest, `"`)
	return address
}

// TestProgramDeploys is P11: under load, deploys by a symbolic link, each of which answers, with broken ones between
// them, which are reported with the program's own words and change nothing; then other sizes. Another program and
// files are beside it. No request is lost, and no client its connection. With -repeat 5: 20 deploys, 10 broken ones.
func TestProgramDeploys(t *testing.T) {
	t.Parallel()
	exclusive(t)
	opts := programSite(t)
	opts.Config += fmt.Sprintf(`
[[program]]
name = "api"
command = [%q, "{socket}"]
dir = "current"
env = { PREFIX = "/api" }
[[route]]
path = "/api"
program = "api"
[[route]]
path = "/files"
static = "current"
`, mastertest.BuildProgram(t, foreign))
	address := addressOf(opts)
	b := mastertest.Start(t, opts)
	clients := []*load.Runner{putLoad(t, address, load.Mix(2, 8, 8))}
	for _, beside := range []load.Config{
		{Path: "/api/", EchoPath: "/api/echo", Classes: load.Mix(2, 4, 4)},
		{Path: "/files/version", Classes: load.Mix(2, 4, 0)},
	} {
		beside.Target = address
		clients = append(clients, load.Start(t.Context(), beside))
	}
	want := func(version string) {
		t.Helper()
		for _, path := range []string{"/", "/api/", "/files/version"} {
			wantBody(t, b, address, path, version)
		}
	}
	want("one")
	for i := range 4 * *repeat {
		version := fmt.Sprint("v", i+2)
		b.WriteFile(filepath.Join(version, "version"), version)
		deploy(t, b, version)
		b.Reload()
		want(version)
		if i%2 == 1 {
			deploy(t, b, "broken")
			wantBrokenDeploy(t, b)
			deploy(t, b, version)
			want(version)
		}
	}
	for _, n := range []int{1, 6, 2} {
		resize(t, b, n)
		sleep(200 * time.Millisecond)
	}
	b.AwaitSettled()
	for _, r := range stopAll(clients...) {
		if r.Failed() != 0 {
			t.Errorf("%d requests failed\n%s", r.Failed(), r)
		}
		wantKept(t, r)
		t.Log(r)
	}
	if n := len(instances(b)); n != 4 {
		t.Errorf("%d instances, want 4", n)
	}
}

// wantBrokenDeploy asks for a reload, which has to fail with the program's own words.
func wantBrokenDeploy(tb testing.TB, b *mastertest.Baton) {
	tb.Helper()
	res := b.CLI("reload", "--config", "site.toml")
	if res.Code != 1 || !strings.Contains(res.Stderr, "reload failed: program ") ||
		!strings.Contains(res.Stderr, ": exited with status 3 before it was ready\n"+
			"  | Error: no good version: broken <nil>\n") {
		tb.Errorf("a broken deploy: exit code %d\n%s", res.Code, res.Stderr)
	}
}

// TestProgramThatDoesNotStop: an instance that ignores the stop signal is killed when the time is over, and so is one
// whose worker was killed.
func TestProgramThatDoesNotStop(t *testing.T) {
	t.Parallel()
	opts := programSite(t, `stop_timeout = "1s"`, `drain_timeout = "1s"`)
	opts.Links["current"] = "stubborn"
	b := mastertest.Start(t, opts)
	before := instances(b)
	b.Reload("--wait")
	mastertest.Await(t, mastertest.Text("the instances before to be gone"), func() bool {
		return len(instances(b)) == 2 && !anyOf(before, instances(b))
	})
	st := b.AwaitSettled()
	before = instances(b)
	for _, pid := range st.PIDs("serving") {
		b.Kill(pid)
	}
	mastertest.Await(t, mastertest.Text("the killed workers' instances to be gone"), func() bool {
		return len(instances(b)) == 2 && !anyOf(before, instances(b))
	})
	b.Stop()
}

// TestProgramMemory: max_memory counts the instance with its worker.
func TestProgramMemory(t *testing.T) {
	t.Parallel()
	opts := programSite(t, fmt.Sprintf("max_memory = %d", 200<<20))
	b := mastertest.Start(t, opts)
	before := instances(b)
	if _, err := b.Get(addressOf(opts), "/eat"); err != nil {
		t.Fatal(err)
	}
	b.AwaitStatus("a recycled worker", func(s mastertest.Status) bool { return s.Recycled == 1 && len(s.Workers) == 2 })
	mastertest.Await(t, mastertest.Text("another instance"), func() bool {
		now := instances(b)
		return len(now) == 2 && !slices.Equal(now, before)
	})
}

// TestProgramOfTheCommandLine: baton -- command serves it, with PORT in its environment.
func TestProgramOfTheCommandLine(t *testing.T) {
	t.Parallel()
	address := mastertest.FreePort(t)
	_, port, _ := strings.Cut(address, ":")
	b := mastertest.Start(t, mastertest.Options{
		Args:  []string{"--port", port, "--workers", "2", "--", mastertest.BuildProgram(t, foreign)},
		Files: map[string]string{"version": "here"},
	})
	wantBody(t, b, address, "/", "here")
	b.WriteFile("version", "there")
	b.Reload()
	wantBody(t, b, address, "/", "there")
	pid, err := b.Get(address, "/pid")
	if n, _ := strconv.Atoi(pid); err != nil || unix.Kill(n, 0) != nil {
		t.Errorf("%q, %v", pid, err)
	}
}

// TestNode is the README's example. With -repeat 5 it is reloaded 30 times.
func TestNode(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed")
	}
	exclusive(t)
	address := mastertest.FreePort(t)
	_, port, _ := strings.Cut(address, ":")
	b := mastertest.Start(t, mastertest.Options{
		Args: []string{"--port", port, "--workers", "2", "--", node, "server.js"},
		Files: map[string]string{"server.js": `
const server = require('http').createServer((req, res) => {
  const body = [];
  req.on('data', (b) => body.push(b));
  req.on('end', () => res.end(req.method === 'POST' ? Buffer.concat(body) : 'node ' + process.env.BATON_GENERATION));
});
server.listen(process.env.PORT, '127.0.0.1');
process.on('SIGTERM', () => server.close(() => process.exit(0)));
`},
	})
	clients := putLoad(t, address, load.Mix(2, 8, 8))
	pace(t, 6**repeat, 100*time.Millisecond, func(i int) {
		b.Reload()
		wantBody(t, b, address, "/", fmt.Sprint("node ", i+2))
	})
	report := wantNoLoss(t, clients)
	wantKept(t, report)
	t.Logf("\n%s", report)
}
