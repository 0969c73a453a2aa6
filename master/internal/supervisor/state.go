package supervisor

import (
	"fmt"
	"sort"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// stateVersion is the version of state. It changes when an older release would go on wrongly from a state, not when a
// field is added: such a release refuses it in its dry run, and the supervisor stays what it is.
const stateVersion = 1

// state is the supervisor at rest, in which it is carried through an execve. Descriptors are by number, for they stay open;
// 0 is none. A field that the writer did not know is zero: restore makes something sane of it.
//
// What is not in it is the same before and after (the arguments, standard input and output, the children), or does not
// exist at rest (an attempt, a superseded master, deadlines).
type state struct {
	Version int    `json:"version"`
	Program string `json:"program"` // the version of the program that wrote it

	Started    int64         `json:"started"` // Unix nanoseconds
	Dir        string        `json:"dir"`
	Terminal   *ttyState     `json:"terminal,omitempty"`
	DoorOurs   int           `json:"door_ours"`
	DoorTheirs int           `json:"door_theirs"`
	Master     storedMaster  `json:"master"`
	Store      []storedEntry `json:"store"`

	Generation   int               `json:"generation"`
	Attempts     int64             `json:"attempts"`
	Count        int64             `json:"count"`
	Served       int64             `json:"served"`
	Results      []result          `json:"results,omitempty"`
	Forgotten    int64             `json:"forgotten,omitempty"`
	Asked        []int64           `json:"asked,omitempty"` // of pace, Unix nanoseconds
	Reloaded     int64             `json:"reloaded"`        // of pace, Unix nanoseconds
	ResizeSeq    int64             `json:"resize_seq"`
	Deaths       deaths            `json:"deaths"`
	MasterSince  int64             `json:"master_since"`  // Unix nanoseconds
	LastTimeouts message.Preparing `json:"last_timeouts"` // of the last master
	Size         int               `json:"size"`
}

// deaths are those of masters.
type deaths struct {
	Unforgiven float64 `json:"unforgiven"` // of backoff
	InARow     int     `json:"in_a_row"`
	Last       string  `json:"last,omitempty"`
	PID        int     `json:"pid,omitempty"`
	Restarts   int64   `json:"restarts"`
}

// ttyState is a terminal. Gone is when it went, Unix nanoseconds.
type ttyState struct {
	FD   int   `json:"fd"`
	Gone int64 `json:"gone,omitempty"`
}

// storedMaster is the session of the current master.
type storedMaster struct {
	FD       int               `json:"fd"`
	PID      int               `json:"pid"`
	Timeouts message.Preparing `json:"timeouts"`
}

// storedEntry is an entry of the registry.
type storedEntry struct {
	Name   string    `json:"name"`
	Data   string    `json:"data,omitempty"`
	Unlink wire.Path `json:"unlink,omitzero"`
	FD     int       `json:"fd,omitempty"`
}

// snapshot is the state of a supervisor at rest, whose readers are paused.
func (sv *supervisor) snapshot() (*state, error) {
	st := &state{
		Version: stateVersion, Program: sv.opts.Version, Started: sv.started.UnixNano(), Dir: sv.dir, DoorTheirs: sv.doorFD,
		Generation: sv.generation, Attempts: sv.attempts, Count: sv.count, Served: sv.served, Results: sv.results, Forgotten: sv.forgotten,
		Reloaded: nanos(sv.pace.started), MasterSince: nanos(sv.masterSince), LastTimeouts: sv.lastTimeouts,
		ResizeSeq: sv.resizeSeq,
		Size:      sv.size, Deaths: deaths{Unforgiven: sv.backoff.Failures, InARow: sv.deaths, Last: sv.lastDeath, PID: sv.lost, Restarts: sv.restarts},
	}
	var err error
	if st.DoorOurs, err = sv.door.FD(); err != nil {
		return nil, fmt.Errorf("door: %w", err)
	}
	s := sv.current
	st.Master = storedMaster{PID: s.pid, Timeouts: s.timeouts}
	if st.Master.FD, err = s.conn.FD(); err != nil {
		return nil, fmt.Errorf("master: %w", err)
	}
	for _, t := range sv.pace.asked {
		st.Asked = append(st.Asked, nanos(t))
	}
	if sv.tty != nil {
		st.Terminal = &ttyState{FD: sv.tty.fd, Gone: sv.tty.gone.Load()}
	}
	for _, name := range sv.registry.names("") {
		e := sv.registry[name]
		st.Store = append(st.Store, storedEntry{Name: name, Data: e.data, Unlink: e.unlink, FD: max(0, e.fd)})
	}
	return st, nil
}

func (st *state) encode() ([]byte, error) {
	b, err := wire.Marshal(st)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	return b, nil
}

// parseState reads a state, and says whether this program can go on from it.
func parseState(b []byte) (*state, error) {
	st := &state{}
	if err := wire.Unmarshal(b, st); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	if st.Version < 1 || st.Version > stateVersion {
		return nil, fmt.Errorf("state: written by %s in version %d, this program reads up to %d", st.Program, st.Version, stateVersion)
	}
	if st.DoorOurs == 0 || st.DoorTheirs == 0 || st.Master.FD == 0 || st.Master.PID == 0 || st.Generation < 1 {
		return nil, fmt.Errorf("state: written by %s, and not whole", st.Program)
	}
	fds := st.fds()
	for i, fd := range fds {
		if fd <= 2 || i > 0 && fd == fds[i-1] {
			return nil, fmt.Errorf("state: written by %s, descriptor %d is not to be there", st.Program, fd)
		}
	}
	return st, nil
}

// fds lists the descriptors that have to stay open, sorted.
func (st *state) fds() []int {
	fds := []int{st.DoorOurs, st.DoorTheirs, st.Master.FD}
	if st.Terminal != nil {
		fds = append(fds, st.Terminal.FD)
	}
	for _, e := range st.Store {
		if e.FD != 0 {
			fds = append(fds, e.FD)
		}
	}
	sort.Ints(fds)
	return fds
}

// restore makes sv the supervisor that wrote the state. Its readers do not run yet.
func (sv *supervisor) restore(st *state) error {
	sv.dir, sv.doorFD = st.Dir, st.DoorTheirs
	if st.Started != 0 {
		sv.started = fromNanos(st.Started)
	}
	if sv.dir == "" {
		sv.dir = "/"
	}
	sv.generation, sv.attempts, sv.count, sv.served, sv.results = st.Generation, st.Attempts, st.Count, st.Served, st.Results
	sv.forgotten = st.Forgotten
	sv.masterSince, sv.lastTimeouts, sv.resizeSeq = fromNanos(st.MasterSince), st.LastTimeouts, st.ResizeSeq
	sv.size = st.Size
	d := st.Deaths
	sv.backoff.Failures, sv.deaths, sv.lastDeath, sv.lost, sv.restarts = d.Unforgiven, d.InARow, d.Last, d.PID, d.Restarts
	sv.pace = pace{started: fromNanos(st.Reloaded)}
	for _, t := range st.Asked {
		sv.pace.asked = append(sv.pace.asked, fromNanos(t))
	}
	if st.Terminal != nil {
		sv.tty = &terminal{fd: st.Terminal.FD}
		sv.tty.gone.Store(st.Terminal.Gone)
	}
	for _, h := range st.Store {
		e := entry{data: h.Data, unlink: h.Unlink, fd: h.FD}
		if h.FD == 0 {
			e.fd = -1
		}
		sv.registry[h.Name] = e
	}
	return sv.restoreSessions(st)
}

func (sv *supervisor) restoreSessions(st *state) error {
	var err error
	if sv.door, err = seqpacket.New(st.DoorOurs); err != nil {
		return fmt.Errorf("door: %w", err)
	}
	s := &session{pid: st.Master.PID, pidfd: -1, phase: phaseCurrent, serving: true, timeouts: st.Master.Timeouts}
	if s.conn, err = seqpacket.New(st.Master.FD); err != nil {
		return fmt.Errorf("master: %w", err)
	}
	s.hold()
	sv.current, sv.live = s, 1
	return nil
}

// closeOnExec sets or clears the flag of descriptors.
func closeOnExec(fds []int, on bool) error {
	flag := 0
	if on {
		flag = unix.FD_CLOEXEC
	}
	for _, fd := range fds {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, flag); err != nil {
			return fmt.Errorf("descriptor %d: %w", fd, err)
		}
	}
	return nil
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}
