package wire

// Messages between a master and the supervisor.

// Roles in which a master starts.
const (
	RoleFirst     = "first"     // nothing serves yet
	RoleSuccessor = "successor" // another master serves
	RoleRestart   = "restart"   // the master is gone, its workers serve
)

// Hello is the only message on the door. It carries one end of a socketpair, the session.
type Hello struct {
	Version string `json:"version"`           // of the program
	Attempt string `json:"attempt,omitempty"` // of which reload the process is the successor
}

// Welcome answers Hello on the session; the registry follows as [Item]s up to an [End].
type Welcome struct {
	Role          string `json:"role"`
	Generation    int    `json:"generation"` // the one that this master is going to be, or is
	Seen          int64  `json:"seen"`       // reload requests so far
	SupervisorPID int    `json:"supervisor_pid"`
	Started       int64  `json:"started"` // of the supervisor, Unix seconds
	// Restarts is how often a master was started in the place of one that died, this one included.
	Restarts int64 `json:"restarts,omitempty"`

	// Stores says that systemd keeps the listening sockets when the supervisor ends. The paths of Unix sockets stay then.
	Stores bool `json:"stores,omitempty"`
}

// Compare asks the master for a reload if its binary or its config is not what is on disk. It is answered by Compared, after
// the Request if there is one.
type Compare struct {
	// Whole: the config is compared even if its files are watched, which means that a change is noticed, but later.
	Whole bool `json:"whole,omitempty"`
}

// Compared answers Compare.
type Compared struct{}

// Refused answers Hello or Commit.
type Refused struct {
	Error string `json:"error"`
}

// Item is one entry of the registry; it carries the entry's descriptor if HasFD.
type Item struct {
	Name  string `json:"name"`
	Data  string `json:"data,omitempty"`
	HasFD bool   `json:"fd,omitempty"`
}

// End ends a run of Items.
type End struct{}

// Put sets an entry, with a descriptor or without. What a successor puts is staged until COMMIT.
type Put struct {
	Name string `json:"name"`
	Data string `json:"data,omitempty"`
	// Unlink is a file that is removed when the entry goes: with a staged one that is dropped, and at the end.
	Unlink Path `json:"unlink,omitzero"`
	// Undo is a file that is removed if the entry is staged and dropped, and stays else.
	Undo Path `json:"undo,omitzero"`
	// Resized says, with the number of slots, that this and all earlier [Resize] messages have been obeyed; Failed is why
	// this one was not.
	Resized int64  `json:"resized,omitempty"`
	Failed  string `json:"failed,omitempty"`
}

// Drop removes an entry; staged like Put.
type Drop struct {
	Name string `json:"name"`
}

// Preparing tells the supervisor how long the successor may take from now on, in nanoseconds.
type Preparing struct {
	ReadyTimeout int64 `json:"ready_timeout"`
	StopTimeout  int64 `json:"stop_timeout"`
	DrainTimeout int64 `json:"drain_timeout"`
}

// Commit asks for COMMIT. Seen is the request count that was read before the config was.
type Commit struct {
	Seen int64 `json:"seen"`
}

// Committed answers Commit: the sender is the master of Generation.
type Committed struct {
	Generation int `json:"generation"`
}

// Serving says that the sender's sockets listen and that its workers may accept: soon after Committed, and again when the
// number of workers, and with it of sockets, has changed.
type Serving struct {
	Workers int `json:"workers"`
}

// Superseded tells a master that it no longer is the master.
type Superseded struct{}

// Left is the last word of a superseded master: it reads from no worker any more, and is about to exit. That may take a
// while, in which its workers need not wait.
type Left struct{}

// Alone tells the master that no predecessor is left. The store's workers follow as Items up to an End.
type Alone struct{}

// Fail says why the sender is about to exit. Code is its exit code.
type Fail struct {
	Error string `json:"error"`
	Code  int    `json:"code"`
}

// Sources of requests that nobody waits for.
const (
	SourceWatch   = "watch"   // a changed file
	SourceCompare = "compare" // the answer to Compare
)

// Request asks for a reload.
type Request struct {
	Source string `json:"source"`
}

// Reload tells the master to start a successor, which is to find Attempt in its environment.
type Reload struct {
	Attempt string `json:"attempt"`
}

// Upgrading answers Reload: the sender starts the successor. A master that does not say so in time is stopped, or stuck.
type Upgrading struct {
	Attempt string `json:"attempt"`
}

// UpgradeFailed says that the successor of Attempt is gone, and why.
type UpgradeFailed struct {
	Attempt string `json:"attempt"`
	Error   string `json:"error"`
}

// Oldest says which generation the oldest worker is of.
type Oldest struct {
	Generation int `json:"generation"`
}

// Cut says what a deadline has cut of a worker of Generation.
type Cut struct {
	Generation  int   `json:"generation"`
	Requests    int64 `json:"requests"`
	Connections int64 `json:"connections"`
}

// StatusRequest asks the master for its part of [Status]. It is answered by StatusAnswer.
type StatusRequest struct {
	ID int64 `json:"id"`
}

// StatusAnswer carries a memory file with a [Status] in JSON: a message has no room for a thousand workers.
type StatusAnswer struct {
	ID int64 `json:"id"`
}

// Exited says that a process which the supervisor is the parent of has ended, or that there is no such one.
type Exited struct {
	PID    int    `json:"pid"`
	Status uint32 `json:"status"` // as wait4 gives it
	Known  bool   `json:"known"`
}

// Gone asks whether a process has ended; Exited answers as soon as it has.
type Gone struct {
	PID int `json:"pid"`
}

// Kill asks the supervisor to SIGKILL one of its children.
type Kill struct {
	PID int `json:"pid"`
}

// Stop tells a master to stop everything. Deadline is on the monotonic clock, in nanoseconds.
type Stop struct {
	Deadline int64 `json:"deadline,omitempty"`
}

// Resize asks the master for a number of workers, or for Delta more. It is said again to the next master unless a [Put]
// has answered it.
type Resize struct {
	Workers int   `json:"workers,omitempty"` // 0: Delta more
	Delta   int   `json:"delta,omitempty"`
	Seq     int64 `json:"seq,omitempty"` // counts the requests from 1
}

// Reopen asks the master to open its log file anew. It is answered by Reopened, or said to the next master.
type Reopen struct{}

// Reopened answers Reopen.
type Reopened struct{}

func (Hello) Kind() string         { return "hello" }
func (Welcome) Kind() string       { return "welcome" }
func (Refused) Kind() string       { return "refused" }
func (Item) Kind() string          { return "item" }
func (End) Kind() string           { return "end" }
func (Put) Kind() string           { return "put" }
func (Drop) Kind() string          { return "drop" }
func (Preparing) Kind() string     { return "preparing" }
func (Commit) Kind() string        { return "commit" }
func (Committed) Kind() string     { return "committed" }
func (Serving) Kind() string       { return "serving" }
func (Superseded) Kind() string    { return "superseded" }
func (Left) Kind() string          { return "left" }
func (Alone) Kind() string         { return "alone" }
func (Fail) Kind() string          { return "fail" }
func (Request) Kind() string       { return "request" }
func (Reload) Kind() string        { return "reload" }
func (UpgradeFailed) Kind() string { return "upgrade-failed" }
func (Upgrading) Kind() string     { return "upgrading" }
func (Oldest) Kind() string        { return "oldest" }
func (Cut) Kind() string           { return "cut" }
func (StatusRequest) Kind() string { return "status?" }
func (StatusAnswer) Kind() string  { return "status" }
func (Exited) Kind() string        { return "exited" }
func (Gone) Kind() string          { return "gone?" }
func (Kill) Kind() string          { return "kill" }
func (Stop) Kind() string          { return "stop" }
func (Resize) Kind() string        { return "resize" }
func (Reopen) Kind() string        { return "reopen" }
func (Reopened) Kind() string      { return "reopened" }
func (Compare) Kind() string       { return "compare" }
func (Compared) Kind() string      { return "compared" }
