package supervisor

import (
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/worker/ownfile"
	"baton/worker/wire"
)

// Names of entries that the supervisor itself looks at. All others are between masters.
const (
	EntryExe    = "exe"    // the executable of the last COMMIT
	EntryLog    = "log"    // what the log is written to; its data is a wire.LogStyle
	EntryListen = "listen" // listen/<key>: a listening socket
	EntryCount  = "count"  // how many workers there are to be
	EntryStats  = "stats"  // what the masters have counted, under the names that it has in status.Status
	// EntryControl is the control socket. The supervisor answers on it while there is no master.
	EntryControl = "control"
	EntryWorker  = "worker" // worker/<pid>: a worker's control socket
)

// WorkerEntry is the name under which the control socket of a worker is stored until it is reaped.
func WorkerEntry(pid int) string { return EntryWorker + "/" + strconv.Itoa(pid) }

// WorkerPID is the inverse of WorkerEntry; 0 if name is another entry's.
func WorkerPID(name string) int {
	rest, ok := strings.CutPrefix(name, EntryWorker+"/")
	if !ok {
		return 0
	}
	pid, err := strconv.Atoi(rest)
	if err != nil {
		return 0
	}
	return pid
}

// entry is a named descriptor, a line of data, or both. FD is raw: an os.File would join the poller, and with it the
// wake-ups of every connection. It is -1 if there is none.
type entry struct {
	Data   string    `json:"data,omitempty"`
	FD     int       `json:"fd"`
	Unlink wire.Path `json:"unlink,omitzero"` // a file that goes with the entry
	Undo   wire.Path `json:"-"`               // one that goes if the entry is never applied
}

// registry is the only truth about what outlives a master.
type registry map[string]entry

// put sets an entry; it takes e.FD. Without a descriptor it changes the data of the entry that there is.
func (r registry) put(name string, e entry) {
	old, ok := r[name]
	if ok && e.FD < 0 {
		old.Data = e.Data
		r[name] = old
		return
	}
	if ok {
		if old.Unlink == e.Unlink {
			old.Unlink = wire.Path{}
		}
		old.discard()
	}
	r[name] = e
}

// drop removes an entry, with its descriptor and its path.
func (r registry) drop(name string) {
	if e, ok := r[name]; ok {
		e.discard()
		delete(r, name)
	}
}

func (e entry) discard() {
	ownfile.Remove(e.Unlink) // while it is open, nobody else has its inode
	ownfile.Remove(e.Undo)
	if e.FD >= 0 {
		_ = unix.Close(e.FD)
	}
}

// get returns an entry, whose fd is -1 if there is none.
func (r registry) get(name string) entry {
	if e, ok := r[name]; ok {
		return e
	}
	return entry{FD: -1}
}

// names lists the entries whose name begins with prefix, sorted.
func (r registry) names(prefix string) []string {
	var all []string
	for name := range r {
		if strings.HasPrefix(name, prefix) {
			all = append(all, name)
		}
	}
	sort.Strings(all)
	return all
}

// send posts the entries with those prefixes as Items, and End.
func (r registry) send(c conn, prefixes ...string) {
	for _, prefix := range prefixes {
		for _, name := range r.names(prefix) {
			r[name].send(c, name)
		}
	}
	_ = c.Post(message.End{})
}

func (e entry) send(c conn, name string) {
	if e.FD < 0 {
		_ = c.Post(message.Item{Name: name, Data: e.Data})
		return
	}
	_ = c.Post(message.Item{Name: name, Data: e.Data, HasFD: true}, e.FD)
}

// staged is what a successor has put and dropped, in order, before COMMIT.
type staged []change

type change struct {
	name string
	drop bool
	e    entry
}

// apply makes it true.
func (g staged) apply(r registry) {
	for _, c := range g {
		if c.drop {
			r.drop(c.name)
			continue
		}
		if _, there := r[c.name]; !there && c.e.FD < 0 && WorkerPID(c.name) != 0 {
			continue // news of a worker that has gone
		}
		c.e.Undo = wire.Path{}
		r.put(c.name, c.e)
	}
}

// discard undoes it: nothing of a failed attempt is left.
func (g staged) discard() {
	for _, c := range g {
		if !c.drop {
			c.e.discard()
		}
	}
}
