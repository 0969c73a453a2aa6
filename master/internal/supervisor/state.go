package supervisor

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"baton/master/internal/message"

	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// stateVersion is the version of state. It changes when an older release would go on wrongly from a state, not when a
// field is added: such a release refuses it in its dry run, and the supervisor stays what it is.
const stateVersion = 1

// state is the supervisor at rest, in which it is carried through an execve. Descriptors are by number, for they stay
// open; 0 is none.
//
// What is not in it is the same before and after (the arguments, standard input and output, the children), or does not
// exist at rest (an attempt, a superseded master, deadlines).
type state struct {
	Version int    `json:"version"`
	Program string `json:"program"` // the version of the program that wrote it

	Started      time.Time      `json:"started"`
	Dir          string         `json:"dir"`
	Terminal     *terminalState `json:"terminal,omitempty"`
	Registration [2]int         `json:"registration"` // our end, and the masters'
	Master       masterState    `json:"master"`
	Registry     registry       `json:"registry"`
	SystemdList  int            `json:"systemd_list,omitempty"`

	Generation   int               `json:"generation"`
	Attempts     int64             `json:"attempts"`
	Requests     int64             `json:"requests"`
	Served       int64             `json:"served"`
	ResizeSeq    int64             `json:"resize_seq"`
	Size         int               `json:"size"`
	Results      results           `json:"results"`
	Limiter      reloadLimiter     `json:"limiter"`
	Restarts     restarts          `json:"restarts"`
	Failures     float64           `json:"failures"` // of the back-off of restarts
	LastTimeouts message.Preparing `json:"last_timeouts"`
}

// terminalState is a terminal. Gone is when it went, Unix nanoseconds.
type terminalState struct {
	FD   int   `json:"fd"`
	Gone int64 `json:"gone,omitempty"`
}

// masterState is the conversation with the current master.
type masterState struct {
	FD       int               `json:"fd"`
	PID      int               `json:"pid"`
	Timeouts message.Preparing `json:"timeouts"`
}

// snapshot returns the state of a supervisor at rest.
func (sv *supervisor) snapshot() (*state, error) {
	st := &state{
		Version: stateVersion, Program: sv.version, Started: sv.started, Dir: sv.dir,
		SystemdList: sv.systemd.List(), LastTimeouts: sv.lastTimeouts, Size: sv.size, ResizeSeq: sv.held.seq,
		Generation: sv.generation, Attempts: sv.attempts, Requests: sv.requests, Served: sv.served,
		Registry: sv.registry, Results: sv.results, Limiter: sv.limiter, Restarts: sv.restarts,
		Failures: sv.restarts.backoff.Failures,
	}
	c := sv.current
	st.Master = masterState{PID: c.pid, Timeouts: c.timeouts}
	st.Registration[1] = sv.registration.masters
	var err error
	if st.Registration[0], err = sv.registration.conn.FD(); err != nil {
		return nil, fmt.Errorf("registration socket: %w", err)
	}
	if st.Master.FD, err = c.FD(); err != nil {
		return nil, fmt.Errorf("master: %w", err)
	}
	if sv.tty != nil {
		st.Terminal = &terminalState{FD: sv.tty.fd, Gone: sv.tty.gone.Load()}
	}
	return st, nil
}

// encode returns nothing that any parser would take if it fails, which it cannot.
func (st *state) encode() []byte {
	b, _ := wire.Marshal(st)
	return b
}

// parseState reads a state, and says whether this program can go on from it.
func parseState(b []byte) (*state, error) {
	st := &state{}
	if err := wire.Unmarshal(b, st); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	if st.Version < 1 || st.Version > stateVersion {
		return nil, fmt.Errorf("state: written by %s in version %d, this program reads up to %d",
			st.Program, st.Version, stateVersion)
	}
	if slices.Contains(st.Registration[:], 0) || st.Master.FD == 0 || st.Master.PID == 0 || st.Generation < 1 {
		return nil, fmt.Errorf("state: written by %s, and not whole", st.Program)
	}
	fds := st.fds()
	for i, fd := range fds {
		if fd <= 2 || i > 0 && fd == fds[i-1] {
			return nil, fmt.Errorf("state: written by %s, unexpected descriptor %d", st.Program, fd)
		}
	}
	return st, nil
}

// fds lists the descriptors that have to stay open, sorted.
func (st *state) fds() []int {
	fds := []int{st.Registration[0], st.Registration[1], st.Master.FD, st.SystemdList}
	if st.Terminal != nil {
		fds = append(fds, st.Terminal.FD)
	}
	for _, e := range st.Registry {
		fds = append(fds, max(0, e.FD))
	}
	slices.Sort(fds)
	return slices.DeleteFunc(fds, func(fd int) bool { return fd == 0 })
}

// restore makes sv the supervisor that wrote the state. Its readers do not run yet.
func (sv *supervisor) restore(st *state) error {
	sv.started, sv.dir, sv.registration.masters = st.Started, st.Dir, st.Registration[1]
	sv.generation, sv.attempts, sv.requests, sv.served = st.Generation, st.Attempts, st.Requests, st.Served
	sv.held.seq, sv.size, sv.lastTimeouts = st.ResizeSeq, st.Size, st.LastTimeouts
	sv.results, sv.limiter, sv.restarts = st.Results, st.Limiter, st.Restarts
	sv.restarts.backoff = restartBackoff
	sv.restarts.backoff.Failures = st.Failures
	if st.Terminal != nil {
		sv.tty = &terminal{fd: st.Terminal.FD}
		sv.tty.gone.Store(st.Terminal.Gone)
	}
	maps.Copy(sv.registry, st.Registry)
	sv.systemd.Resume(st.SystemdList)
	return sv.restoreConns(st)
}

func (sv *supervisor) restoreConns(st *state) error {
	if err := sv.registration.use(st.Registration[0]); err != nil {
		return err
	}
	socket, err := seqpacket.New(st.Master.FD)
	if err != nil {
		return fmt.Errorf("master: %w", err)
	}
	c := &masterConn{
		conn: socket, pid: st.Master.PID, pidfd: -1, phase: phaseCurrent, serving: true, timeouts: st.Master.Timeouts,
	}
	c.openPidfd(sv.kernel)
	sv.current, sv.live = c, 1
	return nil
}
