package program

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A Program is a command that serves HTTP, and how to treat it.
type Program struct {
	Name string `json:"name"`

	// Command is what is executed, and its arguments. In them and in Env, {socket} is replaced by the path of a Unix
	// socket that the instance must listen on, {port} by a port of 127.0.0.1, {slot} and {generation} by numbers.
	// Without {socket} it is to listen on the port, which is in PORT as well.
	Command []string `json:"command"`

	// Dir is the working directory; "" is that of the worker. It is looked up at each start.
	Dir string `json:"dir,omitempty"`

	// Env is added to the environment.
	Env map[string]string `json:"env,omitempty"`

	// Health is a path: an instance is ready when a GET of it is answered with 2xx or 3xx. If "", it is ready when it
	// accepts connections.
	Health string `json:"health,omitempty"`

	// StopSignal asks an instance to end; 0 means SIGTERM.
	StopSignal syscall.Signal `json:"stop_signal,omitempty"`

	// Raw has the output written as it comes, line by line, to the worker's own. Else lines become log records.
	Raw bool `json:"raw,omitempty"`

	// Timeout bounds the wait for the instance: until it begins to answer, and between two reads of its answer. 0 means
	// no limit.
	Timeout time.Duration `json:"timeout,omitempty"`

	// TrustedProxies are the clients whose X-Forwarded fields are passed on: addresses, networks as 10.0.0.0/8, and
	// "unix:", which is whoever connects to a Unix socket. Those of all others are replaced.
	TrustedProxies []string `json:"trusted_proxies,omitempty"`

	// Observe, if not nil, is called when a request has ended, with the status that the client has got, if that says
	// something about the instance, and how long it took. It must not block.
	Observe func(r *http.Request, status int, took time.Duration) `json:"-"`

	// Relay, if not nil, passes on what is said to an instance when the protocol has been switched: websocket.Relay.
	Relay func(ctx context.Context, protocol string, client, upstream io.ReadWriteCloser) `json:"-"`

	// ReadyTimeout bounds the start of an instance that replaces one that has died. 0 means 30 s.
	ReadyTimeout time.Duration `json:"ready_timeout,omitempty"`
}

// A Place is where an instance runs.
type Place struct{ Slot, Generation, Workers int }

func (p *Program) stopSignal() syscall.Signal {
	if p.StopSignal == 0 {
		return syscall.SIGTERM
	}
	return p.StopSignal
}

// usesSocket reports whether the program says that it listens on a Unix socket.
func (p *Program) usesSocket() bool {
	const placeholder = "{socket}"
	isSocket := func(s string) bool { return strings.Contains(s, placeholder) }
	return slices.ContainsFunc(p.Command, isSocket) || slices.ContainsFunc(slices.Collect(maps.Values(p.Env)), isSocket)
}

// ourVariables are the beginnings of what a worker has from its master and its service manager, and an instance must
// not have.
var ourVariables = []string{"BATON_", "LISTEN_", "NOTIFY_SOCKET=", "WATCHDOG_", "TABLEFLIP_", "FDSTORE="}

// environment returns that of an instance.
func (p *Program) environment(at Place, port int, replace *strings.Replacer) []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return slices.ContainsFunc(ourVariables, func(prefix string) bool { return strings.HasPrefix(kv, prefix) })
	})
	if port != 0 {
		env = append(env, "PORT="+strconv.Itoa(port))
	}
	for _, name := range slices.Sorted(maps.Keys(p.Env)) {
		env = append(env, name+"="+replace.Replace(p.Env[name]))
	}
	return append(env, fmt.Sprintf("BATON_SLOT=%d", at.Slot), fmt.Sprintf("BATON_GENERATION=%d", at.Generation),
		fmt.Sprintf("BATON_WORKERS=%d", at.Workers))
}
