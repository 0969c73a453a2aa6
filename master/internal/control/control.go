// Package control is HTTP on the control socket, the server and its client: a few routes, each one call of the backend,
// which is the supervisor.
//
//	GET  /version                    which baton answers: at once, whatever the master does
//	GET  /status                     what `baton status --json` prints
//	POST /reload[?wait=drained]      answers when the reload is done, or has failed
//	POST /reload?async=1             answers at once, with the reload's id
//	GET  /reload/ID[?wait=drained]   answers when that reload is done
//	POST /resize?workers=N           answers when that is the number of workers
//	POST /stop[?now=1|?quit=1]       answers at once; the tree ends after it
//
// 403: the client is neither root nor the user who runs baton. 404: there was no such reload. 410: how it ended has
// been forgotten. 503: there is no master, or everything stops. 504: the master does not answer.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Error is an answer with another status than a success.
type Error struct {
	Code int // of HTTP
	Text string
}

func (e *Error) Error() string { return e.Text }

// MaxWorkers is the most that a resize may ask for: each is a process, so more is a typing error.
const MaxWorkers = 1024

// Listener makes a listener of a raw descriptor, which it owns from then on. The path stays when it is closed.
func Listener(fd int) (net.Listener, error) {
	f := os.NewFile(uintptr(fd), "control")
	defer func() { _ = f.Close() }()
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	return ln, nil
}

// Backend answers. Its methods may block, until their context ends.
type Backend interface {
	Version(ctx context.Context) (any, error)
	Status(ctx context.Context) (any, error)
	Reload(ctx context.Context) (id int64, err error)
	Await(ctx context.Context, id int64, drained bool) (any, error)
	Resize(ctx context.Context, workers int) (any, error)
	Stop(ctx context.Context, quit, now bool) (any, error)
}

// Server serves the control socket until it is closed.
type Server struct {
	http *http.Server
	ln   net.Listener

	mu     sync.Mutex
	open   int           // connections
	idle   []net.Conn    // those that have not sent a whole request, the oldest first
	served chan struct{} // closed when nothing is accepted any more
	empty  chan struct{} // has a value when open has become 0
}

// Serve begins to serve ln.
func Serve(ln net.Listener, b Backend) *Server {
	s := &Server{ln: ln, served: make(chan struct{}), empty: make(chan struct{}, 1)}
	s.http = &http.Server{
		Handler: limitRequests(ownerOnly(routes(b))), ReadHeaderTimeout: headerTime, MaxHeaderBytes: headerBytes,
		// or a client could fill the log
		ConnState: s.count, ConnContext: withPeer, ErrorLog: log.New(io.Discard, "", 0),
	}
	// A kept connection would be cut when the supervisor executes another binary.
	s.http.SetKeepAlivesEnabled(false)
	go func() {
		_ = s.http.Serve(ln)
		close(s.served)
	}()
	return s
}

// count follows the connections. Each carries one request. Of those that send none the oldest is closed when they are
// too many.
func (s *Server) count(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == http.StateNew {
		s.open++
		if s.idle = append(s.idle, c); len(s.idle) > share(maxIdle) {
			_ = s.idle[0].Close() // net/http notices
			s.idle = s.idle[1:]
		}
		return
	}
	s.idle = slices.DeleteFunc(s.idle, func(i net.Conn) bool { return i == c })
	if state == http.StateClosed {
		if s.open--; s.open == 0 {
			select {
			case s.empty <- struct{}{}:
			default:
			}
		}
	}
}

// Stop stops accepting. Connections that wait in the socket's queue stay there.
func (s *Server) Stop() {
	_ = s.ln.Close()
	<-s.served
}

// Busy reports whether a client is connected.
func (s *Server) Busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open > 0
}

// Empty has a value when the last connection has ended.
func (s *Server) Empty() <-chan struct{} { return s.empty }

// Close stops accepting and waits until the connections that there are have been answered, up to limit. The backend
// must make that happen.
func (s *Server) Close(limit time.Duration) {
	s.Stop()
	t := time.NewTimer(limit)
	defer t.Stop()
	for s.Busy() {
		select {
		case <-s.empty:
		case <-t.C:
			return
		}
	}
}

// routes returns the handler of all requests.
func routes(b Backend) http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, code int, call func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := call(r)
			answer(w, code, v, err)
		})
	}
	handle("GET /version", http.StatusOK, func(r *http.Request) (any, error) { return b.Version(r.Context()) })
	handle("GET /status", http.StatusOK, func(r *http.Request) (any, error) { return b.Status(r.Context()) })
	handle("GET /reload/{id}", http.StatusOK, func(r *http.Request) (any, error) {
		id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
		if err != nil {
			return nil, &Error{http.StatusBadRequest, "reload: id: " + err.Error()}
		}
		return b.Await(r.Context(), id, r.URL.Query().Get("wait") == "drained")
	})
	handle("POST /resize", http.StatusOK, func(r *http.Request) (any, error) {
		n, err := strconv.Atoi(r.URL.Query().Get("workers"))
		if err != nil || n < 1 || n > MaxWorkers {
			return nil, &Error{
				http.StatusBadRequest, fmt.Sprintf("resize: workers must be a number from 1 to %d", MaxWorkers),
			}
		}
		return b.Resize(r.Context(), n)
	})
	handle("POST /stop", http.StatusAccepted, func(r *http.Request) (any, error) {
		return b.Stop(r.Context(), r.URL.Query().Get("quit") != "", r.URL.Query().Get("now") != "")
	})
	mux.HandleFunc("POST /reload", func(w http.ResponseWriter, r *http.Request) {
		id, err := b.Reload(r.Context())
		if err != nil || r.URL.Query().Get("async") != "" {
			answer(w, http.StatusAccepted, map[string]int64{"id": id}, err)
			return
		}
		v, err := b.Await(r.Context(), id, r.URL.Query().Get("wait") == "drained")
		answer(w, http.StatusOK, v, err)
	})
	return mux
}

func answer(w http.ResponseWriter, code int, v any, err error) {
	if err != nil {
		code = http.StatusInternalServerError
		if e := (*Error)(nil); errors.As(err, &e) {
			code = e.Code
		}
		http.Error(w, err.Error(), code)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}
