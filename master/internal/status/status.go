// Package status has what the control socket answers, in JSON.
package status

import (
	"cmp"
	"slices"
	"time"

	"baton/worker/wire"
)

// Status is what `baton status --json` prints and GET /status on the control socket answers. What only the master
// knows is missing where there is none, or where it does not answer; Warnings says so.
type Status struct {
	Generation    int       `json:"generation"`
	Version       string    `json:"version"` // of the master
	SupervisorPID int       `json:"supervisor_pid"`
	MasterPID     int       `json:"master_pid"` // 0: there is none
	Supervisor    string    `json:"supervisor_version"`
	Started       time.Time `json:"started"` // of the supervisor

	// WorkersWanted is the number of slots, WorkersConfig what the configuration says: they differ after a resize.
	WorkersWanted int `json:"workers_wanted"`
	WorkersConfig int `json:"workers_config"`

	// State is "starting", "serving", "reloading" or "stopping"; "no master" while there is none.
	State     string     `json:"state"`
	Workers   []Worker   `json:"workers"`
	Listeners []Listener `json:"listeners"`

	LastReload Reload `json:"last_reload"`

	// Warnings are conditions that somebody should look at, in words.
	Warnings []string `json:"warnings,omitempty"`

	// What drain deadlines and max_generations cut since the start.
	CutRequests    int64 `json:"cut_requests"`
	CutConnections int64 `json:"cut_connections"`

	// Handover counts the idle connections that have moved from worker to worker since the start, or were to.
	Handover Handover `json:"handover"`

	// Crashes are the workers that ended unasked since the start.
	Crashes int64 `json:"crashes"`

	// Recycled are the workers that were replaced because of max_requests, max_age or max_memory since the start.
	Recycled int64 `json:"recycled"`

	// Hung are the workers that were killed because of hang_timeout since the start. Those that did not drain are among
	// Crashes as well.
	Hung int64 `json:"hung"`

	// Crashing are the slots whose workers crash one after the other, and those that are empty until their next start.
	Crashing []CrashingSlot `json:"crashing"`

	// MasterRestarts is how often the supervisor has started a master in the place of one that died, since the start.
	MasterRestarts int64 `json:"master_restarts"`
}

// CrashingSlot is a slot in trouble. It is no more listed when it has a worker that has lived a while.
type CrashingSlot struct {
	Slot      int     `json:"slot"`
	Crashes   int     `json:"crashes"`    // in this row
	Within    float64 `json:"within"`     // seconds since the first of them
	Last      string  `json:"last"`       // how the last one ended: "exit status 3", "signal killed"
	Looping   bool    `json:"looping"`    // it crashes again and again; warnings says so as well
	Empty     bool    `json:"empty"`      // no worker is in it
	NextStart float64 `json:"next_start"` // seconds until one is started in it, if it is empty
}

// Handover counts idle connections on their way between workers.
type Handover struct {
	Given   int64 `json:"given"`   // and taken by another worker
	Kept    int64 `json:"kept"`    // offered, and taken by nobody: they stayed where they were
	Taken   int64 `json:"taken"`   // by workers, from others
	Refused int64 `json:"refused"` // received by a worker, and left to the sender
}

// Worker is one worker process.
type Worker struct {
	Generation int `json:"generation"`
	Slot       int `json:"slot"`
	PID        int `json:"pid"`
	// starting, ready, serving, recycling (serves, and its replacement starts) or draining
	State       string  `json:"state"`
	Age         float64 `json:"age"` // seconds
	Requests    int64   `json:"requests"`
	Connections int64   `json:"connections"` // open
	Active      int64   `json:"active"`      // requests in progress
	// Shed are the idle connections that were closed because others waited that there was no room for.
	Shed int64 `json:"shed,omitempty"`
	// Held is why the process accepts no connections at the moment. What comes waits in the kernel.
	Held string `json:"held,omitempty"`
	wire.Instance
	// Silent is set if the process did not answer in time; then the counts are zero.
	Silent bool `json:"silent,omitempty"`
}

// Listener is one address that is served.
type Listener struct {
	Name    string `json:"name"`
	Address string `json:"address"` // the socket's own, with the port that the kernel chose
	// State is "listening", or "failed" if somebody else took the address just before; that is tried again, and Error
	// is how the last try has ended. It is empty while the supervisor answers.
	State string `json:"state,omitempty"`
	Error string `json:"error,omitempty"`
}

// Reload is how the last reload ended. Before the first one OK is true.
type Reload struct {
	ID    int64     `json:"id"`
	OK    bool      `json:"ok"`
	Error string    `json:"error"`
	At    time.Time `json:"at,omitzero"`
}

// Identity is what GET /version on the control socket answers, at once and whatever the master does.
type Identity struct {
	SupervisorPID int    `json:"supervisor_pid"`
	Supervisor    string `json:"supervisor_version"`
	Version       string `json:"version"` // of the master
	Generation    int    `json:"generation"`
}

// ReloadAnswer answers POST /reload and GET /reload/ID.
type ReloadAnswer struct {
	ID         int64  `json:"id"`
	OK         bool   `json:"ok"`
	Error      string `json:"error,omitempty"`
	Generation int    `json:"generation,omitempty"` // that serves
	// Drained, with ?wait=drained: every older generation is gone, and this is what was cut of them.
	Drained        bool  `json:"drained,omitempty"`
	CutRequests    int64 `json:"cut_requests,omitempty"`
	CutConnections int64 `json:"cut_connections,omitempty"`
}

// SortWorkers puts the newest generation first, and its workers by slot.
func SortWorkers(all []Worker) {
	slices.SortFunc(all, func(a, b Worker) int {
		return cmp.Or(cmp.Compare(b.Generation, a.Generation), cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.PID, b.PID))
	})
}
