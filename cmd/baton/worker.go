package main

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"time"

	"baton/http/httpworker"
	"baton/http/program"
	"baton/http/site"
	"baton/http/websocket"
	"baton/worker"
	"baton/worker/echo"
	"baton/worker/wire"
)

// payload is the part of the configuration that workers get from the master, so that no worker ever reads the file.
type payload struct {
	Site           site.Config       `json:"site"`
	IdleTimeout    time.Duration     `json:"idle_timeout"`
	ReceiveTimeout time.Duration     `json:"receive_timeout"`
	BodyTimeout    time.Duration     `json:"body_timeout"` // 0: none, as the file says it
	SendTimeout    time.Duration     `json:"send_timeout"` // the same
	MaxHeaderSize  int               `json:"max_header_size"`
	Certificates   []certificate     `json:"certificates,omitempty"`
	Programs       []program.Program `json:"programs,omitempty"`
}

// siteWorker returns the worker for every transport and process that a [[listen]] may have. Those of no listener cost
// nothing.
func siteWorker() worker.Worker {
	return worker.Group(
		&httpServer{},
		worker.TCP{Process: echo.Process{}, Protocol: "echo"},
		worker.TLS{Process: echo.Process{}, Protocol: "echo", Config: tlsConfig},
		worker.UDP{Process: echo.Process{}, Protocol: "echo"},
	)
}

func readPayload(env *worker.Env) (p payload, err error) {
	if err := wire.Unmarshal(env.Payload(), &p); err != nil {
		return p, fmt.Errorf("payload: %w", err)
	}
	return p, nil
}

func (srv *httpServer) configure(env *worker.Env, s *httpworker.Settings) error {
	p, err := readPayload(env)
	if err != nil {
		return err
	}
	programs, err := srv.start(env, p)
	if err != nil {
		return err
	}
	p.Site.Relay, p.Site.Log = websocket.Relay, env.Log
	h, err := site.New(p.Site, site.Self{
		Generation: env.Generation(), Slot: env.Slot(), PID: os.Getpid(), Version: env.Version(),
	}, programs)
	if err != nil {
		return err
	}
	if s.TLS, err = p.tlsConfigs(); err != nil {
		return err
	}
	s.Handlers = map[string]http.Handler{"websocket-echo": websocket.Echo()}
	s.Handler, s.IdleTimeout, s.ReceiveTimeout, s.MaxHeaderSize = h, p.IdleTimeout, p.ReceiveTimeout, p.MaxHeaderSize
	s.BodyTimeout, s.SendTimeout = orNone(p.BodyTimeout), orNone(p.SendTimeout)
	return nil
}

// orNone turns the file's 0, no limit, into that of [httpworker.Settings].
func orNone(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// tlsConfig returns the configuration of a listener that does not speak HTTP.
func tlsConfig(env *worker.Env, sock worker.Socket) (*tls.Config, error) {
	p, err := readPayload(env)
	if err != nil {
		return nil, err
	}
	all, err := p.tlsConfigs()
	return all[sock.Name], err
}

// certificate is what the files of a tls table say. The master reads them; workers never do.
type certificate struct {
	Listener string `json:"listener"` // its name
	Cert     []byte `json:"cert"`     // PEM
	Key      []byte `json:"key"`      // PEM
}

// tlsConfigs returns the configurations of the listeners, by their names.
func (p payload) tlsConfigs() (map[string]*tls.Config, error) {
	all := map[string]*tls.Config{}
	for _, c := range p.Certificates {
		pair, err := tls.X509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("listener %s: %w", c.Listener, err)
		}
		all[c.Listener] = &tls.Config{Certificates: []tls.Certificate{pair}}
	}
	return all, nil
}
