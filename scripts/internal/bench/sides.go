package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// batonSite is what baton is configured with.
type batonSite struct {
	name    string // of its files; empty: baton
	workers int    // 0: two
	listen  string // more keys of its listener
	routes  string // more routes
}

const whoamiRoute = "[[route]]\npath = \"/\"\nwhoami = true\n"

func startBaton(o options, site batonSite) (*server, error) {
	if site.name == "" {
		site.name = "baton"
	}
	if site.workers == 0 {
		site.workers = 2
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	path, err := o.write(site.name+".toml",
		fmt.Appendf(nil, "workers = %d\ncontrol = %q\n[[listen]]\naddress = %q\n%s\n%s%s",
			site.workers, filepath.Join(o.dir, site.name+".sock"), address, site.listen, whoamiRoute, site.routes))
	if err != nil {
		return nil, err
	}
	s := &server{name: site.name, address: address, who: pidOfWhoami, isWorker: isBatonWorker}
	return s, s.start(o, filepath.Join(o.bin, "baton"), "run", "--config", path)
}

func isBatonWorker(args string) bool { return strings.Contains(args, "/baton worker ") }

func startBare(o options, args ...string) (*server, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	s := &server{name: "net/http", address: address, who: pidOfWhoami}
	return s, s.start(o, filepath.Join(o.bin, "bare"), append([]string{"-address", address}, args...)...)
}

// startNginx starts it with as many workers as baton has, and an answer that needs no file. A worker makes room for all
// its connections when it starts.
func startNginx(o options, connections int) (*server, error) { return startNginxOf(o, 2, connections) }

func startNginxOf(o options, workers, connections int) (*server, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	path, err := o.write("nginx.conf", fmt.Appendf(nil, `
worker_processes %[4]d;
worker_rlimit_nofile %[3]d;
pid %[1]s/nginx.pid;
error_log stderr;
events { worker_connections %[3]d; }
http {
	access_log off;
	keepalive_requests 1000000000;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/f;
	uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	server { listen %[2]s backlog=4096; location / { return 200 "$pid"; } }
}
`, o.dir, address, connections, workers))
	if err != nil {
		return nil, err
	}
	s := &server{
		name: "nginx", address: address, who: func(answer string) string { return answer },
		isWorker: func(args string) bool { return strings.HasPrefix(args, "nginx: worker process") },
	}
	return s, s.start(o, o.nginx, "-p", o.dir, "-c", path, "-g", "daemon off;")
}

// startHAProxy starts it in front of a bare net/http server, in master-worker mode. It can answer by itself as well,
// but then it closes the connection after each POST.
func startHAProxy(o options, behind *server) (*server, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	path, err := o.write("haproxy.cfg", fmt.Appendf(nil, `
global
	maxconn 4096
defaults
	mode http
	timeout connect 5s
	timeout client 75s
	timeout server 75s
frontend f
	bind %s
	default_backend b
backend b
	server s %s
`, address, behind.address))
	if err != nil {
		return nil, err
	}
	s := &server{name: "HAProxy", address: address, who: pidOfWhoami}
	s.isWorker = func(args string) bool { return strings.Contains(args, "haproxy") }
	s.reload = func() error { return s.signalled(syscall.SIGUSR2)() }
	return s, s.start(o, o.haproxy, "-W", "-f", path)
}

func startCaddy(o options) (*server, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	admin, err := freeAddress()
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`{
	"admin": {"listen": %q, "config": {"persist": false}},
	"apps": {"http": {"servers": {"bench": {
		"listen": [%q],
		"automatic_https": {"disable": true},
		"routes": [{"handle": [{"handler": "static_response", "body": "{\"pid\":1}\n"}]}]
	}}}}
}`, admin, address)
	path, err := o.write("caddy.json", []byte(conf))
	if err != nil {
		return nil, err
	}
	s := &server{name: "Caddy", address: address, who: pidOfWhoami}
	s.reload = func() error { return reloadCaddy(admin, conf) }
	return s, s.start(o, o.caddy, "run", "--config", path)
}

// reloadCaddy does what `caddy reload --force` does.
func reloadCaddy(admin, conf string) error {
	req, err := http.NewRequest(http.MethodPost, "http://"+admin+"/load", strings.NewReader(conf))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Cache-Control", "must-revalidate")
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("caddy: %s: %s", resp.Status, text)
	}
	return nil
}

// pidOfWhoami takes the number out of {"…","pid":123,…}.
func pidOfWhoami(answer string) string {
	_, rest, _ := strings.Cut(answer, `"pid":`)
	return rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// openFilesAllowed raises the limit of open files as far as this user may, for us and for the servers, and returns it.
func openFilesAllowed() (int, error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, os.NewSyscallError("getrlimit", err)
	}
	l.Cur = l.Max
	// By this call, even if it changes nothing, the runtime leaves the limit to our children as it is.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, os.NewSyscallError("setrlimit", err)
	}
	return int(l.Cur), nil
}
