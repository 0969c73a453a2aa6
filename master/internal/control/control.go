// Package control is the HTTP side of a master's control socket: a few routes, each one call of the backend.
//
//	GET  /status                     what `baton status --json` prints
//	POST /reload[?wait=drained]      answers when the reload is done, or has failed
//	POST /reload?async=1             answers at once, with the reload's id
//	GET  /reload/ID[?wait=drained]   answers when that reload is done
//	POST /resize?workers=N
//	POST /stop[?now=1|?quit=1]       answers at once; the tree ends after it
//
// 503 means that another master has taken over: ask again. With a Retry-After above 0 there is none at the moment.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

// ErrSuperseded is what a backend returns when its process is no longer the master.
var ErrSuperseded = errors.New("another master has taken over, ask again")

// AbsentError is what a backend returns that needs a master and has none.
type AbsentError struct {
	Reason string
	Again  time.Duration // until there may be one
}

func (e *AbsentError) Error() string { return e.Reason }

// MaxWorkers is the most that a resize may ask for: each is a process, so more is a typing error.
const MaxWorkers = 1024

// RefusedError is what a backend returns that cannot do what it was asked for, and has changed nothing: 409.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

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
	Status(ctx context.Context) (any, error)
	Reload(ctx context.Context) (id int64, err error)
	Await(ctx context.Context, id int64, drained bool) (any, error)
	Resize(ctx context.Context, workers int) error
	Stop(ctx context.Context, quit, now bool) error
}

// Server serves the control socket until it is closed.
type Server struct {
	http *http.Server
	ln   net.Listener

	mu     sync.Mutex
	open   int // connections
	silent silent
	served chan struct{} // closed when nothing is accepted any more
	empty  chan struct{} // has a value when open has become 0
}

// Serve begins to serve ln.
func Serve(ln net.Listener, keeperPID int, b Backend) *Server {
	s := &Server{ln: ln, served: make(chan struct{}), empty: make(chan struct{}, 1)}
	mux := http.NewServeMux()
	h := handlers{b: b, pid: keeperPID}
	mux.HandleFunc("GET /status", h.status)
	mux.HandleFunc("POST /reload", h.reload)
	mux.HandleFunc("GET /reload/{id}", h.await)
	mux.HandleFunc("POST /resize", h.resize)
	mux.HandleFunc("POST /stop", h.stop)
	s.http = &http.Server{
		Handler: few(ownerOnly(mux)), ReadHeaderTimeout: headerTime, MaxHeaderBytes: headerBytes, ConnState: s.count,
		ConnContext: notePeer, ErrorLog: log.New(io.Discard, "", 0), // or a client could fill the log
	}
	// A kept connection would stay with this master when the next one has taken over.
	s.http.SetKeepAlivesEnabled(false)
	go func() {
		_ = s.http.Serve(ln)
		close(s.served)
	}()
	return s
}

// count follows the connections. Each carries one request.
func (s *Server) count(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.open++
		s.silent.add(c)
	case http.StateClosed, http.StateHijacked:
		s.silent.remove(c)
		if s.open--; s.open == 0 {
			select {
			case s.empty <- struct{}{}:
			default:
			}
		}
	case http.StateActive:
		s.silent.remove(c)
	case http.StateIdle:
	}
}

// Close stops accepting and waits until the connections that there are have been answered, up to limit. The backend is
// to make that happen.
func (s *Server) Close(limit time.Duration) {
	_ = s.ln.Close()
	<-s.served
	t := time.NewTimer(limit)
	defer t.Stop()
	for s.busy() {
		select {
		case <-s.empty:
		case <-t.C:
			return
		}
	}
}

func (s *Server) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open > 0
}

type handlers struct {
	b   Backend
	pid int
}

func (h handlers) status(w http.ResponseWriter, r *http.Request) {
	st, err := h.b.Status(r.Context())
	answer(w, http.StatusOK, st, err)
}

func (h handlers) reload(w http.ResponseWriter, r *http.Request) {
	id, err := h.b.Reload(r.Context())
	if err != nil || r.URL.Query().Get("async") != "" {
		answer(w, http.StatusAccepted, map[string]int64{"id": id}, err)
		return
	}
	res, err := h.b.Await(r.Context(), id, r.URL.Query().Get("wait") == "drained")
	if errors.Is(err, ErrSuperseded) {
		http.Redirect(w, r, fmt.Sprintf("/reload/%d?%s", id, r.URL.RawQuery), http.StatusSeeOther)
		return
	}
	answer(w, http.StatusOK, res, err)
}

func (h handlers) await(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		http.Error(w, "reload: id: "+err.Error(), http.StatusBadRequest)
		return
	}
	res, err := h.b.Await(r.Context(), id, r.URL.Query().Get("wait") == "drained")
	answer(w, http.StatusOK, res, err)
}

func (h handlers) resize(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.URL.Query().Get("workers"))
	if err != nil || n < 1 || n > MaxWorkers {
		http.Error(w, fmt.Sprintf("resize: workers must be a number from 1 to %d", MaxWorkers), http.StatusBadRequest)
		return
	}
	err = h.b.Resize(r.Context(), n)
	answer(w, http.StatusOK, map[string]int{"workers": n}, err)
}

func (h handlers) stop(w http.ResponseWriter, r *http.Request) {
	err := h.b.Stop(r.Context(), r.URL.Query().Get("quit") != "", r.URL.Query().Get("now") != "")
	answer(w, http.StatusAccepted, map[string]int{"keeper_pid": h.pid}, err)
}

func answer(w http.ResponseWriter, code int, v any, err error) {
	var absent *AbsentError
	var refused *RefusedError
	switch {
	case errors.As(err, &refused):
		http.Error(w, err.Error(), http.StatusConflict)
		return
	case errors.Is(err, ErrSuperseded):
		w.Header().Set("Retry-After", "0")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	case errors.As(err, &absent):
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(absent.Again.Seconds())))))
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}
