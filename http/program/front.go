package program

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"baton/http/internal/proxy"
)

// idleTimeout is how long a connection to an instance is kept: servers close theirs after two seconds and more, and a
// request must not meet that.
const idleTimeout = time.Second

// launchTries is how many ports are tried if other programs of the machine take them.
const launchTries = 3

// Launch starts an instance and waits until it is ready, or ends it and says why it is not, as [Instance.AwaitReady]
// does. If another process takes its port, it gets another port.
func Launch(ctx context.Context, p *Program, at Place, log *slog.Logger) (*Instance, error) {
	for try := 1; ; try++ {
		i, err := Start(p, at, log)
		if err != nil {
			return nil, err
		}
		if err = i.AwaitReady(ctx); err == nil {
			return i, nil
		}
		i.Kill()
		if !errors.Is(err, errForeign) || try == launchTries {
			return nil, err
		}
	}
}

// newFront returns what forwards requests to where dial leads. The client's Host is the instance's.
func (p *Program) newFront(dial func(context.Context) (net.Conn, error), log *slog.Logger) *proxy.Proxy {
	trusted, _ := proxy.ParseTrusted(p.TrustedProxies) // Start has looked at them
	return &proxy.Proxy{
		Upstream: &proxy.Upstream{Dial: dial, Timeout: p.Timeout, IdleTimeout: idleTimeout},
		Name:     p.Name, Log: log, Observe: p.Observe, Trusted: trusted, Relay: p.Relay,
	}
}
