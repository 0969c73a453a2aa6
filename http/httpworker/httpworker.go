package httpworker

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"time"

	"baton/worker"
)

// The defaults of Settings.
const (
	DefaultIdleTimeout    = 75 * time.Second
	DefaultReceiveTimeout = 2 * time.Second
	DefaultBodyTimeout    = 60 * time.Second
	DefaultSendTimeout    = 60 * time.Second
	DefaultMaxHeaderSize  = 8192
)

// Settings is what a Worker serves, and within which limits.
type Settings struct {
	// Handler answers the requests. Nil means http.DefaultServeMux.
	Handler http.Handler

	// Handlers answer on the listeners whose process is none of "http" and "": by the process's name. What is in
	// neither is not served.
	Handlers map[string]http.Handler

	// TLS are the configurations of listeners with the transport tls, by the listener's name; that of "" is for all
	// the others. Session ticket keys are added, see [worker.Env.ShareTickets]. Without NextProtos clients may choose
	// HTTP/2.
	TLS map[string]*tls.Config

	// IdleTimeout is how long a connection may wait between two requests, or before the first. 0 means 75 s. Before a
	// TLS handshake it may wait no more than 10 s.
	IdleTimeout time.Duration

	// ReceiveTimeout is how long a header may take, from the request's first byte to the header's end. 0 means 2 s.
	ReceiveTimeout time.Duration

	// BodyTimeout is how long a body may pause between two reads of it. Then reading it fails with
	// [os.ErrDeadlineExceeded], and the response is the connection's last. 0 means 60 s, and less no limit.
	BodyTimeout time.Duration

	// SendTimeout is how long a client may take nothing of an answer, between two writes that it takes; the end may
	// come a quarter later. In HTTP/2 it must take 32 KB of a stream within that time. 0 means 60 s, and less no limit.
	//
	// A deadline that a handler sets, with a [http.ResponseController], replaces these two limits in its request. A
	// hijacked connection has neither.
	SendTimeout time.Duration

	// MaxHeaderSize is how many bytes a header may have, from the request's first byte to the end of its empty line;
	// it is exact, for every request of a connection. A larger one is answered with 431. 0 means 8192.
	MaxHeaderSize int

	// Observe, if not nil, is called when a request was answered, or is not going to be. It costs the requests what it
	// takes.
	//
	// Threading: called on the goroutine that serves the request, or that writes the first answer of a connection that
	// was hijacked. The Exchange and its Request must not be used later.
	Observe func(*Exchange)
}

// Worker serves HTTP/1.x and HTTP/2. It is a [worker.Worker].
type Worker struct {
	Settings

	// Configure, if not nil, is called with a copy of Settings to change, before the worker says that it is ready:
	// here the configuration in env.Payload becomes a handler and its limits. Its error fails the worker before
	// anything was accepted.
	//
	// Threading: called once, on Serve's goroutine.
	Configure func(env *worker.Env, s *Settings) error
}

// Handler returns a Worker that serves h with the default limits. Nil means http.DefaultServeMux.
func Handler(h http.Handler) *Worker {
	return &Worker{Settings: Settings{Handler: h}}
}

// Serve serves all sockets of env that are for HTTP, over TCP or TLS, or for one of Handlers, until ctx has ended and
// no connection is left, hijacked ones included. What is still open at env.Cut is closed and counted in env.Counters,
// and Serve returns nil as well. It fails when Configure does, or when a listener breaks.
func (w *Worker) Serve(ctx context.Context, env *worker.Env) error {
	settings := w.Settings
	if w.Configure != nil {
		if err := w.Configure(env, &settings); err != nil {
			return fmt.Errorf("httpworker: configure: %w", err)
		}
	}
	s := newServer(ctx, settings.withDefaults(), env)
	if err := s.listen(); err != nil {
		return fmt.Errorf("httpworker: listen: %w", err)
	}
	env.OnFull(s.Evict)
	env.OnShare(s.Share)
	env.Ready()
	return s.serve()
}

func (s Settings) withDefaults() Settings {
	if s.Handler == nil {
		s.Handler = http.DefaultServeMux
	}
	if s.IdleTimeout == 0 {
		s.IdleTimeout = DefaultIdleTimeout
	}
	if s.ReceiveTimeout == 0 {
		s.ReceiveTimeout = DefaultReceiveTimeout
	}
	if s.BodyTimeout == 0 {
		s.BodyTimeout = DefaultBodyTimeout
	}
	if s.SendTimeout == 0 {
		s.SendTimeout = DefaultSendTimeout
	}
	if s.MaxHeaderSize == 0 {
		s.MaxHeaderSize = DefaultMaxHeaderSize
	}
	return s
}

// listen takes the listeners that are for this worker.
func (s *server) listen() error {
	moves := true
	if err := selfTest(); err != nil {
		s.env.Log.Warn("http: connections will not move between generations", "error", err)
		moves = false
	}
	for _, sock := range s.env.Sockets() {
		if !s.serves(sock) {
			continue
		}
		o := &origin{handler: s.Handlers[sock.Process]}
		o.Key, o.Moves = sock.Key, moves && sock.Handover && sock.Transport != "tls"
		var err error
		if sock.Transport == "tls" {
			if o.TLS, err = s.tlsConfig(s.env, sock); err != nil {
				return err
			}
		}
		if o.ln, err = s.env.Listener(listenerName(sock)); err != nil {
			return err
		}
		if err := s.Listen(&o.Listener); err != nil {
			return err
		}
		s.origins = append(s.origins, o)
	}
	return nil
}

func listenerName(sock worker.Socket) string { return cmp.Or(sock.Name, sock.Address) }

// serves reports whether a socket is for this worker.
func (s Settings) serves(sock worker.Socket) bool {
	if sock.Transport != "tcp" && sock.Transport != "tls" {
		return false
	}
	return sock.Process == "" || sock.Process == "http" || s.Handlers[sock.Process] != nil
}
