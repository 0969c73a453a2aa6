package wire

import "log/slog"

// Messages between a master and one of its workers, on the worker's control socket.

// A Listener is one socket that a worker gets: what it is called and what is to be served on it.
type Listener struct {
	Key       string `json:"key"`               // the socket's name in the supervisor's registry
	At        string `json:"at,omitempty"`      // the address in Key, as Drain.Ends has it, if Key says more than that
	Name      string `json:"name"`              // the user's name for it
	Address   string `json:"address"`           // as the user wrote it
	Transport string `json:"transport"`         // tcp, tls or udp
	Process   string `json:"process,omitempty"` // the protocol spoken on it
	Handover  bool   `json:"handover,omitempty"`

	// Group is the same for all sockets of the port, whatever their address and slot: connections that came by one of
	// them can be served by a worker that accepts on another.
	Group string `json:"group,omitempty"`

	// Own says that no other worker accepts on the socket, unless this one's slot goes or it crashes.
	Own bool `json:"own,omitempty"`

	// Additional says that it is one more socket for the listener that has the same name.
	Additional bool `json:"additional,omitempty"`

	// External says that the socket is held outside of this program as well (systemd), and outlives it.
	External bool `json:"external,omitempty"`
}

// AddSocket gives the worker one more socket for a listener that it has. It carries the descriptor. A socket that the
// worker has already changes nothing.
type AddSocket struct {
	Listener Listener `json:"listener"`
}

// RemoveSocket takes a socket away that [AddSocket] has given: nothing comes there any more.
type RemoveSocket struct {
	Key string `json:"key"`
}

// Listening says that a socket listens that did not before: one whose address somebody else had taken between bind and
// listen. The worker does not accept on a socket that does not listen; now it looks again.
type Listening struct{}

// Sockets is what has no room in [Setup]. It carries the descriptors of Listeners.
type Sockets struct {
	Listeners []Listener `json:"listeners,omitempty"`
	Paths     []Path     `json:"paths,omitempty"`
	More      bool       `json:"more,omitempty"` // another one follows
}

// Setup is the first message to a worker. It carries the descriptors of a memory file with the payload, of the memory
// file in which workers count what they accept (see package sock), and of Listeners, in their order.
type Setup struct {
	Generation int        `json:"generation"`
	Slot       int        `json:"slot"`
	Workers    int        `json:"workers"` // as the generation is to have
	Version    string     `json:"version"`
	Listeners  []Listener `json:"listeners"`
	Payload    int        `json:"payload"` // bytes in the memory file
	Log        LogStyle   `json:"log"`
	// Tickets are the keys of TLS session tickets, see [Tickets].
	Tickets [][]byte `json:"tickets,omitempty"`
	// MaxRequests is after how many requests the worker says [Retire]. 0: never.
	MaxRequests int64 `json:"max_requests,omitempty"`
	// HangTimeout is how long the worker may be without a heartbeat, in nanoseconds. 0: for ever. Else a memory file
	// is the last descriptor, and Heart is where in it 8 bytes change with every beat.
	HangTimeout int64 `json:"hang_timeout,omitempty"`
	Heart       int64 `json:"heart,omitempty"`
	// StopTimeout is how long the worker drains when supervisor and master are dead, in nanoseconds.
	StopTimeout int64 `json:"stop_timeout"`
	// Paths are to be removed when supervisor and master are dead.
	Paths []Path `json:"paths,omitempty"`
	// More: [Sockets] messages follow, with further Listeners and Paths.
	More bool `json:"more,omitempty"`
	// MaxConnections is how many connections the worker takes. 0: as many as its limit of open files allows.
	MaxConnections int `json:"max_connections,omitempty"`
}

// Path is a file that this program has made, and not another one that is at its path by now: see package ownfile.
type Path struct {
	Path string `json:"path"`
	Dev  int64  `json:"dev"`
	Ino  int64  `json:"ino"`
	Text string `json:"text,omitempty"` // that is in it; empty: whatever it is
}

// Ready says that the worker could accept.
type Ready struct{}

// Go says that the worker may accept: its generation is committed.
type Go struct {
	// PIDFile, which is written after COMMIT, is one more of the Paths of [Setup].
	PIDFile Path `json:"pid_file,omitzero"`
}

// Retire says that the worker is to be replaced: another one first, then a [Drain]. It is said once, and again after
// every [Go], which an adopting master says once more.
type Retire struct {
	Reason string `json:"reason"`
}

// RetireRequests is the Reason of a worker that has answered MaxRequests.
const RetireRequests = "max_requests"

// Drain says that the worker takes nothing new and finishes what it has. A later Drain may only
// shorten the deadline.
type Drain struct {
	// Deadline is on the monotonic clock of the machine, in nanoseconds.
	Deadline int64 `json:"deadline"`
	// Ends names the addresses of the listeners that are no longer served by anybody (see Listener.At): what they have
	// queued is accepted and served.
	Ends []string `json:"ends,omitempty"`
	// Stop says that no other generation follows: all addresses end.
	Stop bool `json:"stop,omitempty"`
}

// StatsRequest asks for a [Stats] with the same ID.
type StatsRequest struct {
	ID int64 `json:"id"`
}

// Stats is what a worker counts.
type Stats struct {
	ID           int64          `json:"id"`
	State        string         `json:"state"` // starting, ready, serving or draining
	Requests     int64          `json:"requests"`
	Conns        int64          `json:"conns"`
	Active       int64          `json:"active"`
	Handed       HandoverCounts `json:"handed"`
	IdleEvicted  int64          `json:"idle_evicted,omitempty"`  // closed because there was no room for others
	AcceptPaused string         `json:"accept_paused,omitempty"` // why nothing is accepted at the moment

	Instance

	// LogLost are the lines that did not get into the log, and LogError is why, of the last one that could not be
	// written.
	LogLost  int64  `json:"log_lost,omitempty"`
	LogError string `json:"log_error,omitempty"`
}

// Instance is what a worker says of somebody else's program that it runs, and of the first one if there are several.
type Instance struct {
	Program    string `json:"program,omitempty"`
	ProgramPID int    `json:"program_pid,omitempty"` // 0: none runs

	// ProgramExits are the instances of all its programs that have ended unasked, or have not become ready, and
	// ProgramExit is the last of them.
	ProgramExits int64        `json:"program_exits,omitempty"`
	ProgramExit  *ProgramExit `json:"program_exit,omitempty"`
}

// ProgramExit is how an instance of a program has ended.
type ProgramExit struct {
	Program   string   `json:"program"`
	How       string   `json:"how"`                  // "exited with status 3"
	Lines     []string `json:"lines,omitempty"`      // the last ones of its output
	Ago       float64  `json:"ago"`                  // seconds since then
	NextStart float64  `json:"next_start,omitempty"` // seconds until another one is started in its place; 0: it was
}

// HandoverCounts counts idle connections on their way between workers.
type HandoverCounts struct {
	Given   int64 `json:"given"`   // and taken by another worker
	Kept    int64 `json:"kept"`    // offered, and taken by nobody: they stayed
	Taken   int64 `json:"taken"`   // from other workers
	Refused int64 `json:"refused"` // received, and left to the sender
}

// Add adds o to h.
func (h *HandoverCounts) Add(o HandoverCounts) {
	h.Given += o.Given
	h.Kept += o.Kept
	h.Taken += o.Taken
	h.Refused += o.Refused
}

// Bye is the last message of a worker that has drained, or failed: what the deadline cut.
type Bye struct {
	Failure string `json:"failure,omitempty"` // in words; empty: it has drained

	CutRequests int64 `json:"cut_requests"`
	CutConns    int64 `json:"cut_conns"`
	Requests    int64 `json:"requests"`

	Handed HandoverCounts `json:"handed"`
}

// Tickets are the keys of TLS session tickets, the newest first, for all workers of all generations.
type Tickets struct {
	Keys [][]byte `json:"keys"`
}

// LogStyle is how log lines are written, and which: those of Level and above. Format is text, as if empty, or json.
type LogStyle struct {
	Format string     `json:"format,omitempty"`
	Level  slog.Level `json:"level"`
}

// LogFile carries the descriptor that a process writes its log to from now on.
type LogFile struct{}

func (Setup) Kind() string        { return "setup" }
func (Sockets) Kind() string      { return "sockets" }
func (AddSocket) Kind() string    { return "add-socket" }
func (RemoveSocket) Kind() string { return "remove-socket" }
func (Listening) Kind() string    { return "listening" }
func (Ready) Kind() string        { return "ready" }
func (Go) Kind() string           { return "go" }
func (Retire) Kind() string       { return "retire" }
func (Drain) Kind() string        { return "drain" }
func (StatsRequest) Kind() string { return "stats?" }
func (Stats) Kind() string        { return "stats" }
func (Bye) Kind() string          { return "bye" }
func (LogFile) Kind() string      { return "log" }
func (Tickets) Kind() string      { return "tickets" }
