package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	firstPause = 2 * time.Millisecond
	lastPause  = 100 * time.Millisecond
	probeLimit = 5 * time.Second // for one answer on the health path
)

// errNobody is why an instance is not ready: nobody listens on its address.
var errNobody = errors.New("it does not listen")

// AwaitReady waits until the instance answers, and returns an [ExitError] if it has exited before that, or ctx has
// ended. A program cannot be waited for but by asking: the pauses between two tries grow from 2 to 100 ms.
func (i *Instance) AwaitReady(ctx context.Context) error {
	pause, last := firstPause, errNobody
	for {
		err := i.probe(ctx)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errForeign):
			return i.failed(err.Error(), err)
		case ctx.Err() == nil: // else it may be only that there was no time left
			last = err
		}
		timer := time.NewTimer(pause)
		select {
		case <-i.exited:
			timer.Stop()
			return i.neverReady()
		case <-ctx.Done():
			timer.Stop()
			return i.failed("not ready in time: "+last.Error(), last)
		case <-timer.C:
		}
		pause = min(2*pause, lastPause)
	}
}

// neverReady is the error of an instance that exited.
func (i *Instance) neverReady() error {
	i.drainOutput()
	what := i.how() + " before it was ready"
	switch {
	case i.state.Success():
		what += ": a program must stay in the foreground"
	case i.addr.port != 0 && len(listeners(i.addr.port)) > 0:
		return i.failed(what+": "+errForeign.Error(), errForeign)
	}
	return i.failed(what, nil)
}

// probe asks once.
func (i *Instance) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	c, err := i.dial(ctx)
	if err != nil {
		return errNobody
	}
	defer func() { _ = c.Close() }()
	if i.addr.port != 0 {
		if err := i.isOurs(); err != nil {
			return err
		}
	}
	if i.program.Health == "" {
		return nil
	}
	return i.askHealth(ctx, c)
}

// dial connects to the instance.
func (i *Instance) dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, i.addr.network, i.addr.name)
}

// askHealth asks for the health path on a connection.
func (i *Instance) askHealth(ctx context.Context, c net.Conn) error {
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return c, nil }}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+i.program.Health, nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("%s: %w", i.program.Health, err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.CopyN(io.Discard, resp.Body, pieceLimit)
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("%s answers %d", i.program.Health, resp.StatusCode)
	}
	return nil
}
