package mastertest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Status is the part of GET /status that tests look at.
type Status struct {
	Generation        int              `json:"generation"`
	Version           string           `json:"version"`
	SupervisorPID     int              `json:"supervisor_pid"`
	MasterPID         int              `json:"master_pid"`
	SupervisorVersion string           `json:"supervisor_version"`
	State             string           `json:"state"`
	WorkersWanted     int              `json:"workers_wanted"`
	WorkersConfig     int              `json:"workers_config"`
	Workers           []WorkerStatus   `json:"workers"`
	Listeners         []ListenerStatus `json:"listeners"`
	LastReload        ReloadStatus     `json:"last_reload"`
	Warnings          []string         `json:"warnings"`
	CutRequests       int64            `json:"cut_requests"`
	CutConnections    int64            `json:"cut_connections"`
	Crashes           int64            `json:"crashes"`
	Recycled          int64            `json:"recycled"`
	Hung              int64            `json:"hung"`
	MasterRestarts    int64            `json:"master_restarts"`
	Handover          HandoverStatus   `json:"handover"`
	Crashing          []CrashingSlot   `json:"crashing"`
}

// CrashingSlot is a slot whose workers crash one after the other, or that is empty because one has.
type CrashingSlot struct {
	Slot      int     `json:"slot"`
	Crashes   int     `json:"crashes"`
	Last      string  `json:"last"`
	Looping   bool    `json:"looping"`
	Empty     bool    `json:"empty"`
	NextStart float64 `json:"next_start"`
}

// HandoverStatus counts idle connections on their way between workers.
type HandoverStatus struct {
	Given   int64 `json:"given"`
	Kept    int64 `json:"kept"`
	Taken   int64 `json:"taken"`
	Refused int64 `json:"refused"`
}

// WorkerStatus is one worker process.
type WorkerStatus struct {
	Generation  int    `json:"generation"`
	Slot        int    `json:"slot"`
	PID         int    `json:"pid"`
	State       string `json:"state"`
	Requests    int64  `json:"requests"`
	Connections int64  `json:"connections"`
	Active      int64  `json:"active"`
	Held        string `json:"held"`
	Shed        int64  `json:"shed"`
}

// ListenerStatus is one address that is served.
type ListenerStatus struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	State   string `json:"state"`
	Error   string `json:"error"`
}

// ReloadStatus is how the last reload ended.
type ReloadStatus struct {
	ID    int64  `json:"id"`
	OK    bool   `json:"ok"`
	Error string `json:"error"`
}

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
