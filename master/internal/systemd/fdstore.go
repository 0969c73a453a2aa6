package systemd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/ownfile"
	"baton/worker/rawfd"
	"baton/worker/wire"
)

// listName is systemd's name for the list of the sockets that it keeps.
const listName = "baton/list"

// listVersion is that of the list. A list of another one is not read: then nothing is known of the sockets but their
// addresses, by which they are found all the same.
const listVersion = 1

// retryPause is how long after something was not sent it is sent again.
const retryPause = time.Second

// Socket is a listening socket, and the entry of the registry that it belongs to.
type Socket struct {
	Entry, Data string
	Unlink      wire.Path
	FD          int
}

// fdStore is what systemd keeps for the next supervisor, where it offers to (FileDescriptorStoreMax=): the listening
// sockets, with all that the registry knows of them, so that a restart loses no connection that waits in a queue. The
// sockets of a socket unit are not among them; systemd has them anyway.
type fdStore struct {
	max     int             // descriptors; 0: none are kept
	list    int             // a memory file with what follows, which systemd has as well
	kept    map[string]kept // by entry
	retryAt time.Time

	asking bool // a barrier has not been answered
	listed bool // systemd was given the list
	warned bool
	closed bool // the process ends: what systemd keeps, it keeps
}

// kept is a socket that was given to systemd.
type kept struct {
	fdname string
	sure   bool // systemd has said that it has read that; until then nobody relies on it
}

// list is the content of the memory file.
type list struct {
	Version int      `json:"version"`
	Sockets []listed `json:"sockets"`
}

type listed struct {
	FDName string    `json:"fdname"`
	Entry  string    `json:"entry"`
	Data   string    `json:"data"`
	Unlink wire.Path `json:"unlink,omitzero"`
}

func (f *fdStore) open(limit int) {
	if limit >= 2 { // a socket and the list
		f.max, f.kept = limit, map[string]kept{}
	}
}

// KeepsSockets reports whether listening sockets outlive the process.
func (m *Manager) KeepsSockets() bool { return m.fds.max > 0 }

// IsKept reports whether systemd has said that it keeps the socket of an entry.
func (m *Manager) IsKept(entry string) bool { return m.fds.kept[entry].sure }

// List returns the descriptor of the list; 0: there is none.
func (m *Manager) List() int { return m.fds.list }

// Resume continues the conversation after an execve, with the list.
func (m *Manager) Resume(list int) {
	m.unanswered = false
	if list == 0 || m.fds.max == 0 {
		return
	}
	m.fds.list, m.fds.listed = list, true
	for _, r := range readList(list) {
		m.fds.kept[r.Entry] = kept{fdname: r.FDName} // systemd is asked again
	}
}

// restore returns what an earlier supervisor has put into the store, what else was passed, and the FDNAMEs of what is
// of no use any more.
func (f *fdStore) restore(all []Activated) (stored []Socket, rest []Activated, dead []string) {
	i := slices.IndexFunc(all, func(p Activated) bool { return p.Name == listName })
	if f.max == 0 {
		return nil, all, nil
	}
	known := map[string]listed{}
	if i >= 0 {
		f.list, f.listed = all[i].FD, true
		for _, r := range readList(f.list) {
			known[r.FDName] = r
		}
		all = slices.Delete(all, i, i+1)
	}
	for _, p := range all {
		r, ok := known[p.Name]
		switch {
		case !ok:
			rest = append(rest, p)
		case r.isReachable(p.FD):
			stored = append(stored, Socket{Entry: r.Entry, Data: r.Data, Unlink: r.Unlink, FD: p.FD})
			f.kept[r.Entry] = kept{fdname: r.FDName, sure: true}
		default:
			_ = unix.Close(p.FD)
			dead = append(dead, p.Name)
		}
	}
	return stored, rest, dead
}

// isReachable reports whether somebody could still connect to the socket: it listens, and is at its path.
func (r listed) isReachable(fd int) bool {
	return (r.Unlink == wire.Path{} || ownfile.Is(r.Unlink)) && canBeKept(fd)
}

// canBeKept is false for a socket that does not listen: for poll it has hung up, and systemd drops it.
func canBeKept(fd int) bool { return rawfd.Listens(fd) || isType(fd, unix.SOCK_DGRAM) }

// readList returns nothing if it is another release's, or no list.
func readList(fd int) []listed {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return nil
	}
	b := make([]byte, st.Size)
	n, err := unix.Pread(fd, b, 0)
	if err != nil {
		return nil
	}
	// What follows the first value is the rest of a longer one, which a supervisor that was killed could not cut off.
	var first json.RawMessage
	var l list
	if err := json.NewDecoder(bytes.NewReader(b[:n])).Decode(&first); err != nil {
		return nil
	}
	if err := wire.Unmarshal(first, &l); err != nil || l.Version != listVersion {
		return nil
	}
	return l.Sockets
}

// Sync gives to systemd what is new among the sockets that listen, and takes back what has left. What cannot be told
// now is told later.
func (m *Manager) Sync() {
	f := &m.fds
	f.retryAt = time.Time{}
	if f.max == 0 || f.closed {
		return
	}
	want := map[string]Socket{}
	for _, s := range m.opts.Sockets() {
		if canBeKept(s.FD) {
			want[s.Entry] = s
		}
	}
	m.takeBack(want)
	err := m.give(want, f.missing(m.log, want))
	if err == nil {
		err = m.confirm()
	}
	if err != nil {
		if !errors.Is(err, errNotSent) { // which is in the log
			m.log.Error("supervisor: systemd's store", "error", err)
		}
		m.retryLater()
	}
}

func (m *Manager) retryLater() { m.fds.retryAt = time.Now().Add(retryPause) }

// takeBack tells systemd what it need not keep any more.
func (m *Manager) takeBack(want map[string]Socket) {
	for _, name := range slices.Sorted(maps.Keys(m.fds.kept)) {
		if _, ok := want[name]; ok {
			continue
		}
		if !m.tell("FDSTOREREMOVE=1", "FDNAME="+m.fds.kept[name].fdname) {
			m.retryLater()
			continue
		}
		delete(m.fds.kept, name)
	}
}

// missing lists what systemd has not been given, as far as it has room.
func (f *fdStore) missing(log *slog.Logger, want map[string]Socket) (fresh []string) {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if _, ok := f.kept[name]; ok {
			continue
		}
		if len(f.kept)+len(fresh)+1 < f.max {
			fresh = append(fresh, name)
		} else if !f.warned {
			f.warned = true
			log.Warn("supervisor: systemd's store is too small, a restart may lose connections",
				"FileDescriptorStoreMax", f.max, "needed", len(want)+1)
		}
	}
	return fresh
}

// give gives the list, with the fresh sockets in it, and then those.
func (m *Manager) give(want map[string]Socket, fresh []string) error {
	f := &m.fds
	for _, name := range fresh {
		f.kept[name] = kept{fdname: f.fdName(name)}
	}
	err := m.writeList(want)
	for _, name := range fresh {
		if err == nil {
			err = m.giveSocket(want[name].FD, f.kept[name].fdname)
		}
		if err != nil {
			delete(f.kept, name)
		}
	}
	return err
}

func (m *Manager) giveSocket(fd int, fdname string) error {
	lines := []string{"FDSTORE=1", "FDNAME=" + fdname}
	if isType(fd, unix.SOCK_DGRAM) {
		lines = append(lines, "FDPOLL=0") // an error that somebody's answer has caused is not its end
	}
	return m.notifier.give(fd, lines...)
}

// writeList writes the list, in place: systemd has the same file.
func (m *Manager) writeList(want map[string]Socket) error {
	f, l := &m.fds, list{Version: listVersion}
	for _, name := range slices.Sorted(maps.Keys(f.kept)) {
		if s, ok := want[name]; ok { // else systemd has not been told yet that it has left
			fdname := f.kept[name].fdname
			l.Sockets = append(l.Sockets, listed{FDName: fdname, Entry: name, Data: s.Data, Unlink: s.Unlink})
		}
	}
	b, err := wire.Marshal(l)
	if err != nil {
		return err
	}
	if f.list == 0 {
		if f.list, err = unix.MemfdCreate("list", unix.MFD_CLOEXEC); err != nil {
			f.list = 0
			return fmt.Errorf("list: %w", err)
		}
	}
	if _, err := unix.Pwrite(f.list, b, 0); err != nil {
		return fmt.Errorf("list: write: %w", err)
	}
	if err := unix.Ftruncate(f.list, int64(len(b))); err != nil {
		return fmt.Errorf("list: truncate: %w", err)
	}
	if f.listed {
		return nil
	}
	err = m.notifier.give(f.list, "FDSTORE=1", "FDNAME="+listName, "FDPOLL=0")
	f.listed = err == nil
	return err
}

// confirm asks systemd whether it has read all that it was given.
func (m *Manager) confirm() error {
	f := &m.fds
	given := slices.DeleteFunc(slices.Collect(maps.Keys(f.kept)), func(name string) bool { return f.kept[name].sure })
	if f.asking || len(given) == 0 {
		return nil
	}
	err := m.barrier(func(obeyed bool) { m.opts.Later(func() { m.onBarrier(given, obeyed) }) })
	f.asking = err == nil
	return err
}

// onBarrier notes that systemd has what it was given. If some of it was not sent, all of it is given again, which does
// no harm.
func (m *Manager) onBarrier(given []string, obeyed bool) {
	f := &m.fds
	f.asking = false
	for _, name := range given {
		switch e, ok := f.kept[name]; {
		case ok && obeyed:
			f.kept[name] = kept{fdname: e.fdname, sure: true}
		case ok:
			delete(f.kept, name)
		}
	}
	if !obeyed {
		f.listed = false
		m.retryLater()
		return
	}
	m.Sync() // what was given meanwhile has to be asked for
}

// maxFDName is below what systemd takes, 255, with room for a number.
const maxFDName = 200

// fdName returns a name by which people know the socket in `systemd-analyze fdstore`, and that no other one has.
func (f *fdStore) fdName(entry string) string {
	base := strings.Map(func(r rune) rune {
		switch {
		case r == ':':
			return '-'
		case r <= ' ' || r >= 127:
			return '_'
		}
		return r
	}, "baton/"+strings.TrimPrefix(entry, "listen/"))
	base = base[:min(len(base), maxFDName)]
	taken := map[string]bool{listName: true}
	for _, e := range f.kept {
		taken[e.fdname] = true
	}
	name := base
	for i := 2; taken[name]; i++ {
		name = fmt.Sprintf("%s~%d", base, i)
	}
	return name
}
