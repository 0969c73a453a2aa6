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
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
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
	srv := &http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT"), Handler: mux}
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
	fmt.Println(srv.ListenAndServe())
	select {}
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
// them, which are reported with the program's own words and change nothing. No request is lost, and no client its
// connection.
func TestProgramDeploys(t *testing.T) {
	t.Parallel()
	exclusive(t)
	opts := programSite(t)
	address := addressOf(opts)
	b := mastertest.Start(t, opts)
	wantBody(t, b, address, "/", "one")
	clients := putLoad(t, address, defaultLoad())
	for i := range 6 {
		version := fmt.Sprint("v", i+2)
		if err := os.Mkdir(b.Path(version), 0o755); err != nil {
			t.Fatal(err)
		}
		b.WriteFile(filepath.Join(version, "version"), version)
		deploy(t, b, version)
		b.Reload()
		wantBody(t, b, address, "/", version)
		if i%3 == 1 {
			deploy(t, b, "broken")
			res := b.CLI("reload", "--config", "site.toml")
			if res.Code != 1 || !strings.Contains(res.Stderr, "reload failed: program web, slot ") ||
				!strings.Contains(res.Stderr, ": exited with status 3 before it was ready\n"+
					"  | Error: no good version: broken <nil>\n") {
				t.Errorf("a broken deploy: exit code %d\n%s", res.Code, res.Stderr)
			}
			wantBody(t, b, address, "/", version)
		}
	}
	b.AwaitSettled()
	wantKept(t, wantNoLoss(t, clients))
	if n := len(instances(b)); n != 2 {
		t.Errorf("%d instances, want 2", n)
	}
}

// instances are the processes of the foreign program.
func instances(b *mastertest.Baton) (pids []int) {
	for _, p := range b.Tree() {
		if env, err := mastertest.Environ(p.PID); err == nil && env["BATON_SLOT"] != "" {
			pids = append(pids, p.PID)
		}
	}
	slices.Sort(pids)
	return pids
}

func anyOf(pids, all []int) bool {
	return slices.ContainsFunc(pids, func(pid int) bool { return slices.Contains(all, pid) })
}

// TestProgramKilled: kill -9 of an instance, of a worker, of the master and of the supervisor. What was killed comes
// back, and nothing of it stays; only the supervisor's death ends everything.
func TestProgramKilled(t *testing.T) {
	t.Parallel()
	exclusive(t)
	opts := programSite(t)
	address := addressOf(opts)
	b := mastertest.Start(t, opts)
	await := func(what string, gone ...int) {
		t.Helper()
		var now []int
		mastertest.Await(t, func() string { return fmt.Sprint(what, ": two instances, none of ", gone, ", now ", now) },
			func() bool {
				now = instances(b)
				return len(now) == 2 && !anyOf(gone, now)
			})
		wantBody(t, b, address, "/", "one")
	}
	await("at first")
	for _, w := range b.Status().Workers {
		if w.Program != "web" || !slices.Contains(instances(b), w.ProgramPID) {
			t.Errorf("%+v, the instances are %v", w, instances(b))
		}
	}
	res, first := b.CLI("status", "--config", "site.toml"), fmt.Sprintf("web (pid %d)", instances(b)[0])
	if !strings.Contains(res.Stdout, first) {
		t.Errorf("the status does not show the instances:\n%s", res.Stdout)
	}
	killed := instances(b)[0]
	b.Kill(killed)
	await("an instance killed", killed)

	before, worker := instances(b), b.Status().Workers[0].PID
	b.Kill(worker)
	b.AwaitStatus("another worker", func(s mastertest.Status) bool {
		return len(s.PIDs("serving")) == 2 && !slices.Contains(s.PIDs(""), worker)
	})
	mastertest.Await(t, mastertest.Text("the instance of the killed worker to be gone"), func() bool {
		return !slices.Equal(instances(b), before) && len(instances(b)) == 2
	})
	await("a worker killed")

	before = instances(b)
	b.Kill(b.Status().MasterPID)
	b.AwaitSettled()
	await("the master killed")
	if now := instances(b); !slices.Equal(now, before) {
		t.Errorf("instances %v are %v after the master's death", before, now)
	}
	b.Kill(b.PID())
	b.AwaitGone()
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

// TestNode is the README's example.
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
	for i := range 4 {
		b.Reload()
		wantBody(t, b, address, "/", fmt.Sprint("node ", i+2))
		sleep(250 * time.Millisecond)
	}
	wantKept(t, wantNoLoss(t, clients))
}
