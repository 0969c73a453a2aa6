package supervisor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/ownfile"
	"baton/worker/wire"
)

// entryStored is a memory file with the list of the sockets that systemd keeps; no master sees it.
const entryStored = "systemd/stored"

// storedList is systemd's name for that list.
const storedList = "baton/list"

// storedVersion is that of the list. A list of another one is not read: then nothing is known of the sockets but their
// addresses, by which they are found all the same.
const storedVersion = 1

// fdstore is what systemd keeps for the next supervisor, where it offers to (FileDescriptorStoreMax=): the listening sockets,
// with all that the supervisor's own store knows of them, so that a restart loses no connection that waits in a queue. The
// sockets of a socket unit are not among them; systemd has them anyway.
type fdstore struct {
	max    int             // descriptors; 0: none are kept
	kept   map[string]kept // by the name of the entry
	asking bool            // a barrier is on its way
	listed bool            // systemd was given the list
	warned bool
}

// kept is a socket that was given to systemd.
type kept struct {
	fdname string
	sure   bool // systemd has said that it has read that; until then nobody relies on it
}

// storeRetry is when what systemd was not told is told again.
const storeRetry = time.Second

// stored is one socket in the list.
type stored struct {
	FDName string    `json:"fdname"`
	Entry  string    `json:"entry"`
	Data   string    `json:"data"`
	Unlink wire.Path `json:"unlink,omitzero"`
}

type storedSockets struct {
	Version int      `json:"version"`
	Sockets []stored `json:"sockets"`
}

// fdstoreEnv is how many descriptors systemd offers to keep. It says so since version 254.
const fdstoreEnv = "FDSTORE"

// open is called where there is a systemd to talk to.
func (f *fdstore) open() {
	n, err := strconv.Atoi(os.Getenv(fdstoreEnv))
	if err == nil && n >= 2 { // a socket and the list
		f.max, f.kept = n, map[string]kept{}
	}
}

// restore puts back into s what an earlier supervisor has given to systemd, and returns what else was passed, and the FDNAMEs
// of what is of no use any more.
func (f *fdstore) restore(all []passed, s registry) (rest []passed, dead []string) {
	if f.max == 0 {
		return all, nil
	}
	known := map[string]stored{}
	for i, p := range all {
		if p.name == storedList {
			s.put(entryStored, entry{fd: p.fd})
			f.listed = true
			for _, r := range readStored(p.fd) {
				known[r.FDName] = r
			}
			all = slices.Delete(all, i, i+1)
			break
		}
	}
	for _, p := range all {
		r, ok := known[p.name]
		switch {
		case !ok:
			rest = append(rest, p)
		case r.reachable(p.fd):
			s.put(r.Entry, entry{data: r.Data, fd: p.fd, unlink: r.Unlink})
			f.kept[r.Entry] = kept{fdname: r.FDName, sure: true}
		default:
			_ = unix.Close(p.fd)
			dead = append(dead, p.name)
		}
	}
	return rest, dead
}

// reachable reports whether somebody could still connect to the socket: it listens, and is at its path.
func (r stored) reachable(fd int) bool {
	return (r.Unlink == wire.Path{} || ownfile.Is(r.Unlink)) && (isListening(fd) || isDatagram(fd))
}

func isDatagram(fd int) bool {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	return err == nil && kind == unix.SOCK_DGRAM
}

// readStored reads the list; none if it is another release's, or no list.
func readStored(fd int) []stored {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return nil
	}
	b := make([]byte, st.Size)
	n, err := unix.Pread(fd, b, 0)
	if err != nil {
		return nil
	}
	var list storedSockets
	var first json.RawMessage
	// What follows the first value is the rest of a longer one, which a supervisor that was killed could not cut off.
	if json.NewDecoder(bytes.NewReader(b[:n])).Decode(&first) != nil || wire.Unmarshal(first, &list) != nil || list.Version != storedVersion {
		return nil
	}
	return list.Sockets
}

// syncStore gives to systemd what is new among the listening sockets, and takes back what has left. Before they listen they
// would not be kept: a socket that does not listen has hung up, for poll. What cannot be told now is told later.
func (sv *supervisor) syncStore() {
	f := &sv.systemd.store
	if f.max == 0 || sv.stopping {
		return
	}
	sv.dl.store = time.Time{}
	err := sv.giveStore(sv.takeBack(sv.toStore()))
	if err == nil {
		err = sv.makeSure()
	}
	if err != nil {
		if !errors.Is(err, errNotSent) { // which was said
			sv.log.Error("supervisor: systemd's store", "error", err)
		}
		sv.dl.store = time.Now().Add(storeRetry)
	}
}

// takeBack tells systemd what it is not to keep any more, and returns what it is to be given.
func (sv *supervisor) takeBack(want []string) (fresh []string) {
	f := &sv.systemd.store
	for _, name := range slices.Sorted(maps.Keys(f.kept)) {
		if slices.Contains(want, name) {
			continue
		}
		if !sv.systemd.tell("FDSTOREREMOVE=1", "FDNAME="+f.kept[name].fdname) {
			sv.dl.store = time.Now().Add(storeRetry)
			continue
		}
		delete(f.kept, name)
	}
	for _, name := range want {
		if _, ok := f.kept[name]; ok {
			continue
		}
		if len(f.kept)+len(fresh)+1 >= f.max {
			f.warn(sv, len(want)+1)
			break
		}
		fresh = append(fresh, name)
	}
	return fresh
}

// giveStore gives the list, with what is fresh in it, and then that.
func (sv *supervisor) giveStore(fresh []string) error {
	f := &sv.systemd.store
	for _, name := range fresh {
		f.kept[name] = kept{fdname: f.fdName(name)}
	}
	err := sv.writeStored()
	for _, name := range fresh {
		if err == nil {
			err = sv.giveSocket(name, f.kept[name].fdname)
		}
		if err != nil {
			delete(f.kept, name)
		}
	}
	return err
}

// makeSure asks systemd whether it has read all that it was given.
func (sv *supervisor) makeSure() error {
	f := &sv.systemd.store
	given := slices.DeleteFunc(slices.Collect(maps.Keys(f.kept)), func(name string) bool { return f.kept[name].sure })
	if f.asking || len(given) == 0 {
		return nil
	}
	err := sv.systemd.barrier(func(obeyed bool) { sv.calls <- func() { sv.onBarrier(given, obeyed) } })
	f.asking = err == nil
	return err
}

// onBarrier: systemd has what it was given, or some of it was not sent: then all of it is given again, which does no harm.
func (sv *supervisor) onBarrier(given []string, obeyed bool) {
	f := &sv.systemd.store
	f.asking = false
	for _, name := range given {
		switch e, ok := f.kept[name]; {
		case ok && obeyed:
			e.sure = true
			f.kept[name] = e
		case ok:
			delete(f.kept, name)
		}
	}
	if !obeyed {
		f.listed = false
		sv.dl.store = time.Now().Add(storeRetry)
		return
	}
	sv.syncStore() // what was given meanwhile has to be asked for
}

func (f *fdstore) warn(sv *supervisor, need int) {
	if !f.warned {
		f.warned = true
		sv.log.Warn("supervisor: systemd's store is too small, a restart may lose connections", "FileDescriptorStoreMax", f.max, "needed", need)
	}
}

// toStore lists the listening sockets that no socket unit has passed.
func (sv *supervisor) toStore() []string {
	var own []string
	for _, name := range sv.registry.names(EntryListen + "/") {
		// One that does not listen yet, because somebody else has its port, has hung up for systemd.
		if fd := sv.registry[name].fd; fd >= 0 && !sv.wasPassed(fd) && (isListening(fd) || isDatagram(fd)) {
			own = append(own, name)
		}
	}
	return own
}

func (sv *supervisor) wasPassed(fd int) bool {
	for _, name := range sv.registry.names(EntryPassed + "/") {
		if sameFile(sv.registry[name].fd, fd) {
			return true
		}
	}
	return false
}

func (sv *supervisor) giveSocket(name, fdname string) error {
	text := "FDSTORE=1\nFDNAME=" + fdname + "\n"
	fd := sv.registry[name].fd
	if isDatagram(fd) {
		text += "FDPOLL=0\n" // an error that somebody's answer has caused is not its end
	}
	return sv.systemd.give(fd, text)
}

// writeStored writes the list, in place: systemd has the same file.
func (sv *supervisor) writeStored() error {
	list := storedSockets{Version: storedVersion}
	for _, name := range slices.Sorted(maps.Keys(sv.systemd.store.kept)) {
		e, ok := sv.registry[name]
		if !ok {
			continue // systemd is still to be told that it has left
		}
		list.Sockets = append(list.Sockets, stored{FDName: sv.systemd.store.kept[name].fdname, Entry: name, Data: e.data, Unlink: e.unlink})
	}
	b, err := wire.Marshal(list)
	if err != nil {
		return err
	}
	e, old := sv.registry[entryStored]
	if !old {
		if e.fd, err = unix.MemfdCreate("list", unix.MFD_CLOEXEC); err != nil {
			return fmt.Errorf("memory file: %w", err)
		}
		sv.registry.put(entryStored, e)
	}
	if _, err := unix.Pwrite(e.fd, b, 0); err != nil {
		return fmt.Errorf("memory file: write: %w", err)
	}
	if err := unix.Ftruncate(e.fd, int64(len(b))); err != nil {
		return fmt.Errorf("memory file: truncate: %w", err)
	}
	if sv.systemd.store.listed {
		return nil
	}
	err = sv.systemd.give(e.fd, "FDSTORE=1\nFDNAME="+storedList+"\nFDPOLL=0\n")
	sv.systemd.store.listed = err == nil
	return err
}

// maxFDName is below what systemd takes, 255, with room for a number.
const maxFDName = 200

// fdName is a name by which people know the socket in `systemd-analyze fdstore`, and that no other one has.
func (f *fdstore) fdName(entry string) string {
	base := strings.Map(func(r rune) rune {
		switch {
		case r == ':':
			return '-'
		case r <= ' ' || r >= 127:
			return '_'
		}
		return r
	}, "baton/"+strings.TrimPrefix(entry, EntryListen+"/"))
	base = base[:min(len(base), maxFDName)]
	name := base
	for i := 2; f.taken(name); i++ {
		name = fmt.Sprintf("%s~%d", base, i)
	}
	return name
}

func (f *fdstore) taken(fdname string) bool {
	for _, e := range f.kept {
		if e.fdname == fdname {
			return true
		}
	}
	return fdname == storedList
}

// dropListeners closes the listening sockets of a program that ends. Of those that systemd keeps, for sure, the paths stay.
func (sv *supervisor) dropListeners() {
	for _, name := range sv.registry.names(EntryListen + "/") {
		if e := sv.registry[name]; sv.systemd.store.kept[name].sure {
			e.unlink = wire.Path{}
			sv.registry[name] = e
		}
		sv.registry.drop(name)
	}
	for _, name := range sv.registry.names(EntryPassed + "/") {
		sv.registry.drop(name)
	}
}
