package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"baton/scripts/internal/harness"
)

// programRole is in the command line of every instance.
const programRole = "program"

// largeBody is what every server answers at its large path.
func largeBody() []byte {
	b := make([]byte, 1<<20)
	for i := range b {
		b[i] = byte(i * 31 >> 3)
	}
	return b
}

// serveProgram is a server that knows nothing of baton: this command, as it is run with "program" and a Unix socket.
func serveProgram(socket string) error {
	if os.Getenv("BROKEN") != "" {
		return fmt.Errorf("BROKEN is %s", os.Getenv("BROKEN"))
	}
	large := largeBody()
	mux := http.NewServeMux()
	mux.HandleFunc("/go/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "go") })
	mux.HandleFunc("/go/large", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(large) })
	mux.HandleFunc("/go/echo", func(w http.ResponseWriter, r *http.Request) {
		if b, err := io.ReadAll(r.Body); err == nil {
			_, _ = w.Write(b)
		}
	})
	ln, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: mux}
	term, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ended := make(chan error, 1)
	context.AfterFunc(term, func() { ended <- srv.Shutdown(context.Background()) })
	_ = srv.Serve(ln)
	return <-ended
}

// nodeProgram does the same, on a port.
const nodeProgram = `
const large = Buffer.alloc(1 << 20);
for (let i = 0; i < large.length; i++) large[i] = i * 31 >> 3;
const server = require('http').createServer((req, res) => {
  const body = [];
  req.on('data', (b) => body.push(b));
  req.on('end', () => res.end({'/node/echo': Buffer.concat(body), '/node/large': large}[req.url] || 'node\n'));
});
server.listen(process.env.PORT, '127.0.0.1');
process.on('SIGTERM', () => server.close(() => process.exit(0)));
`

// program is one of the site; the name is its path as well.
type program struct {
	name    string
	command []string
}

// findPrograms returns those that this machine can run.
func findPrograms() ([]program, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	all := []program{{"go", []string{self, programRole, "{socket}"}}}
	if node, err := exec.LookPath("node"); err == nil {
		all = append(all, program{"node", []string{node, "program.js", programRole, "{slot}"}})
	}
	return all, nil
}

// config is what the config file says of it.
func (p program) config(broken bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[[program]]\nname = %q\ncommand = [", p.name)
	for _, word := range p.command {
		fmt.Fprintf(&b, "%q, ", word)
	}
	b.WriteString("]\n")
	if broken {
		b.WriteString("env = { BROKEN = \"deploy\" }\n")
	}
	fmt.Fprintf(&b, "[[route]]\npath = \"/%s\"\nprogram = %q\n", p.name, p.name)
	return b.String()
}

// breakProgram deploys a program that exits at its start; its own words must be told.
func (s *soak) breakProgram(r *rand.Rand) {
	s.site.broken = true
	broken := s.site.String()
	s.site.broken = false
	if err := harness.Save(s.baton.Path("site.toml"), []byte(broken), 0o600); err != nil {
		s.oddity("config: %v", err)
	}
	kills := s.killsSoFar()
	out, err := s.baton.Command(s.tool, "reload")
	if (err == nil || !strings.Contains(out, "\n  | soak: BROKEN is deploy\n")) && !s.killedSince(kills) {
		s.oddity("a broken program: %v: %s", err, out)
	}
	s.edit(r)
}

// killInstance kills an instance of a program.
func (s *soak) killInstance(r *rand.Rand) {
	s.held.dying()
	defer s.held.died()
	s.killOne(r, " "+programRole+" ")
}
