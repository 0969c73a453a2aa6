package mastertest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"baton/master/internal/status"
)

// Status is the answer to GET /status.
type Status struct{ status.Status }

// PIDs are the processes of the workers in a state, or of all if it is empty.
func (s Status) PIDs(state string) []int {
	var pids []int
	for _, w := range s.Workers {
		if state == "" || w.State == state {
			pids = append(pids, w.PID)
		}
	}
	return pids
}

// Settled says that nothing is going on: the workers of this generation serve, in all slots, and no others are left.
func (s Status) Settled() bool {
	for _, w := range s.Workers {
		if w.State != "serving" || w.Generation != s.Generation {
			return false
		}
	}
	return s.Generation > 0 && s.State == "serving" && len(s.Workers) == s.WorkersWanted
}

// askStatus asks once.
func askStatus(socket string) (Status, error) {
	var s Status
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := getJSON(ctx, "unix", socket, "/status", &s)
	return s, err
}

// getJSON asks once.
func getJSON(ctx context.Context, network, address, path string, v any) error {
	body, err := get(ctx, network, address, path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("GET %s: %w: %s", path, err, body)
	}
	return nil
}

// get asks once, on a connection of its own.
func get(ctx context.Context, network, address, path string) ([]byte, error) {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://baton"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s: %s", path, resp.Status, body)
	}
	return body, nil
}
