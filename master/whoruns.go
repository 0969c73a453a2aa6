package master

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/listen"
	"baton/master/internal/status"
	"baton/master/peer"
)

// whoRunsLimit is how long a process may take to say who it is.
const whoRunsLimit = 2 * time.Second

// whoRuns adds to a control socket's address that is taken who serves there.
func whoRuns(path string, err error) string {
	if !errors.Is(err, unix.EADDRINUSE) {
		return ""
	}
	var holder peer.Process
	ctx, cancel := context.WithTimeout(context.Background(), whoRunsLimit)
	defer cancel()
	c := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := listen.Dial(ctx, path)
			if err == nil {
				holder = peer.Of(conn)
			}
			return conn, err
		},
	}}
	if id, err := identify(ctx, c); err == nil {
		return fmt.Sprintf(": baton is running already, supervisor PID %d", id.SupervisorPID)
	}
	if ctx.Err() != nil {
		return ": " + peer.Look(holder.PID).Silence()
	}
	return ""
}

// identify asks a baton who it is.
func identify(ctx context.Context, c http.Client) (id status.Identity, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://baton/version", nil)
	if err != nil {
		return id, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return id, err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(&id); err != nil || id.SupervisorPID == 0 {
		return id, errors.Join(err, errors.New("it is not baton"))
	}
	return id, nil
}
