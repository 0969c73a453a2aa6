// Package message has what a master and the supervisor say to each other, on a socketpair of their own that the master
// brings along with its [Hello]. It follows the rules of package wire: what is not understood is dropped.
//
//	master says      supervisor answers, or says by itself
//
//	Hello            Welcome, Items, End; or Refused       a process wants to be the master
//	Preparing                                              the timeouts of its config
//	Put, Drop                                              the registry; staged before COMMIT
//	Commit           Committed, or Refused                 its workers are ready: the one point of truth
//	                 Superseded                            to the predecessor: another process is the master
//	Serving                                                its sockets listen, its workers accept
//	Leaving                                                of the predecessor: it changes nothing any more
//	                 TakeoverComplete, Items, End          to the master: it is the only one
//	Fail                                                   why the sender is about to exit
//
//	ReloadRequest                                          a file has changed
//	Upgrading        Reload                                the answer to Reload: it starts a successor
//	UpgradeFailed                                          the successor has exited
//	Oldest, Cut                                            what has become of the older generations
//
//	StatusAnswer     StatusRequest
//	Put              Resize                                the number of workers; the answer is in Resized and Failed
//	Reopened         Reopen                                the log file
//	Compared         Compare                               is the binary, or the config, another one?
//	                 Stop                                  until a deadline
//
//	AwaitExit        Exited                                a worker of another master
//	Kill                                                   the same
package message

import "baton/worker/wire"

// Roles in which a master starts.
const (
	RoleFirst     = "first"     // nothing serves yet
	RoleSuccessor = "successor" // another master serves
	RoleRestart   = "restart"   // the master has exited, its workers serve
)

// Hello is the only message on the registration socket. It carries one end of a socketpair for all others.
type Hello struct {
	Version string `json:"version"`           // of the program
	Attempt string `json:"attempt,omitempty"` // the reload whose successor the process is
}

// Welcome answers Hello; the registry follows as [Item]s up to an [End].
type Welcome struct {
	Role          string `json:"role"`
	Generation    int    `json:"generation"` // the one that this master will be, or is
	Seen          int64  `json:"seen"`       // reload requests that it serves
	SupervisorPID int    `json:"supervisor_pid"`
	Started       int64  `json:"started"` // of the supervisor, Unix seconds
	// Restarts is how often a master was started in the place of one that died, this one included.
	Restarts int64 `json:"restarts,omitempty"`

	// FDStore says that systemd keeps the listening sockets when the supervisor exits: the paths of Unix sockets stay
	// then.
	FDStore bool `json:"fd_store,omitempty"`
}

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

// Put sets an entry, with a descriptor or without.
type Put struct {
	Name string `json:"name"`
	Data string `json:"data,omitempty"`
	// Unlink is a file that is removed with the entry: when a staged one is discarded, and when the supervisor exits.
	Unlink wire.Path `json:"unlink,omitzero"`
	// Undo is a file that is removed when a staged entry is discarded, and stays otherwise.
	Undo wire.Path `json:"undo,omitzero"`
	// Resized says, with the number of slots, that this and all earlier [Resize] messages have been obeyed; Failed is
	// why this one was not.
	Resized int64  `json:"resized,omitempty"`
	Failed  string `json:"failed,omitempty"`
}

// Drop removes an entry.
type Drop struct {
	Name string `json:"name"`
}

// Preparing has the timeouts of the sender's config, in nanoseconds. ReadyTimeout begins now.
type Preparing struct {
	ReadyTimeout int64 `json:"ready_timeout"`
	StopTimeout  int64 `json:"stop_timeout"`
	DrainTimeout int64 `json:"drain_timeout"`
}

// Commit asks for COMMIT. Seen is that of Welcome: the config was read after it.
type Commit struct {
	Seen int64 `json:"seen"`
}

// Committed answers Commit: the sender is the master of Generation.
type Committed struct {
	Generation int `json:"generation"`
}

// Serving says that the sender's sockets listen and that its workers may accept: soon after Committed, and again when
// the number of workers, and with it of sockets, has changed.
type Serving struct {
	Workers int `json:"workers"`
}

// Superseded tells a master that it no longer is the master.
type Superseded struct{}

// Leaving is the last message of a superseded master: it reads from no worker any more, and is about to exit. That may
// take a while, for which its workers need not wait.
type Leaving struct{}

// TakeoverComplete tells the master that no predecessor is left. The workers of the registry follow as Items up to an
// End.
type TakeoverComplete struct{}

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

// ReloadRequest asks for a reload.
type ReloadRequest struct {
	Source string `json:"source"`
}

// Reload tells the master to start a successor, with Attempt in its environment.
type Reload struct {
	Attempt string `json:"attempt"`
}

// Upgrading answers Reload: the sender starts the successor. A master that does not say so in time is stopped, or
// stuck.
type Upgrading struct {
	Attempt string `json:"attempt"`
}

// UpgradeFailed says that the successor of Attempt has exited, and why.
type UpgradeFailed struct {
	Attempt string `json:"attempt"`
	Error   string `json:"error"`
}

// Oldest is the generation of the oldest worker.
type Oldest struct {
	Generation int `json:"generation"`
}

// Cut counts what a deadline has cut of a worker of Generation.
type Cut struct {
	Generation  int   `json:"generation"`
	Requests    int64 `json:"requests"`
	Connections int64 `json:"connections"`
}

// StatusRequest asks the master for its part of the status.
type StatusRequest struct {
	ID int64 `json:"id"`
}

// StatusAnswer carries a memory file with a status.Status in JSON: a message has no room for a thousand workers.
type StatusAnswer struct {
	ID int64 `json:"id"`
}

// AwaitExit asks for Exited as soon as a process has exited.
type AwaitExit struct {
	PID int `json:"pid"`
}

// Exited says that a child of the supervisor has exited, or that there is no such child.
type Exited struct {
	PID    int    `json:"pid"`
	Status uint32 `json:"status"` // as wait4 gives it
	Known  bool   `json:"known"`
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

// Reopen asks the master to open its log file anew. It is answered, or said again to the next master.
type Reopen struct{}

// Reopened answers Reopen.
type Reopened struct{}

// Compare asks the master for a [ReloadRequest] if its binary or its config is not what is on disk.
type Compare struct {
	// Whole: the config is compared even if its files are watched, which notices a change, but later.
	Whole bool `json:"whole,omitempty"`
}

// Compared answers Compare, after the ReloadRequest if there is one.
type Compared struct{}

func (Hello) Kind() string            { return "hello" }
func (Welcome) Kind() string          { return "welcome" }
func (Refused) Kind() string          { return "refused" }
func (Item) Kind() string             { return "item" }
func (End) Kind() string              { return "end" }
func (Put) Kind() string              { return "put" }
func (Drop) Kind() string             { return "drop" }
func (Preparing) Kind() string        { return "preparing" }
func (Commit) Kind() string           { return "commit" }
func (Committed) Kind() string        { return "committed" }
func (Serving) Kind() string          { return "serving" }
func (Superseded) Kind() string       { return "superseded" }
func (Leaving) Kind() string          { return "leaving" }
func (TakeoverComplete) Kind() string { return "takeover-complete" }
func (Fail) Kind() string             { return "fail" }
func (ReloadRequest) Kind() string    { return "reload?" }
func (Reload) Kind() string           { return "reload" }
func (UpgradeFailed) Kind() string    { return "upgrade-failed" }
func (Upgrading) Kind() string        { return "upgrading" }
func (Oldest) Kind() string           { return "oldest" }
func (Cut) Kind() string              { return "cut" }
func (StatusRequest) Kind() string    { return "status?" }
func (StatusAnswer) Kind() string     { return "status" }
func (AwaitExit) Kind() string        { return "exited?" }
func (Exited) Kind() string           { return "exited" }
func (Kill) Kind() string             { return "kill" }
func (Stop) Kind() string             { return "stop" }
func (Resize) Kind() string           { return "resize" }
func (Reopen) Kind() string           { return "reopen" }
func (Reopened) Kind() string         { return "reopened" }
func (Compare) Kind() string          { return "compare" }
func (Compared) Kind() string         { return "compared" }
