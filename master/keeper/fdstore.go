package keeper

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

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

// fdstore is what systemd keeps for the next keeper, where it offers to (FileDescriptorStoreMax=): the listening sockets,
// with all that the keeper's own store knows of them, so that a restart loses no connection that waits in a queue. The
// sockets of a socket unit are not among them; systemd has them anyway.
type fdstore struct {
	max    int               // descriptors; 0: none are kept
	kept   map[string]string // FDNAMEs, by the name of the entry
	warned bool
}

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
		f.max, f.kept = n, map[string]string{}
	}
}

// restore puts back into s what an earlier keeper has given to systemd, and returns what else was passed, and the FDNAMEs
// of what is of no use any more.
func (f *fdstore) restore(all []passed, s store) (rest []passed, dead []string) {
	if f.max == 0 {
		return all, nil
	}
	known := map[string]stored{}
	for i, p := range all {
		if p.name == storedList {
			s.put(entryStored, entry{fd: p.fd})
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
			f.kept[r.Entry] = r.FDName
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
	// What follows the first value is the rest of a longer one, which a keeper that was killed could not cut off.
	if json.NewDecoder(bytes.NewReader(b[:n])).Decode(&first) != nil || wire.Unmarshal(first, &list) != nil || list.Version != storedVersion {
		return nil
	}
	return list.Sockets
}

// syncStore gives to systemd what is new among the listening sockets, and takes back what has left. Before they listen they
// would not be kept: a socket that does not listen has hung up, for poll.
func (k *keeper) syncStore() {
	f := &k.systemd.store
	if f.max == 0 {
		return
	}
	want := k.toStore()
	for _, name := range slices.Sorted(maps.Keys(f.kept)) {
		if !slices.Contains(want, name) {
			k.systemd.tell("FDSTOREREMOVE=1", "FDNAME="+f.kept[name])
			delete(f.kept, name)
		}
	}
	var fresh []string
	for _, name := range want {
		if f.kept[name] != "" {
			continue
		}
		if len(f.kept)+1 >= f.max {
			f.warn(k, len(want)+1)
			break
		}
		f.kept[name] = f.fdName(name)
		fresh = append(fresh, name)
	}
	if err := k.writeStored(); err != nil {
		k.log.Error("keeper: systemd's store", "error", err)
		return
	}
	for _, name := range fresh {
		k.giveSocket(name, f.kept[name])
	}
}

func (f *fdstore) warn(k *keeper, need int) {
	if !f.warned {
		f.warned = true
		k.log.Warn("keeper: systemd's store is too small, a restart may lose connections", "FileDescriptorStoreMax", f.max, "needed", need)
	}
}

// toStore lists the listening sockets that no socket unit has passed.
func (k *keeper) toStore() []string {
	var own []string
	for _, name := range k.store.names(EntryListen + "/") {
		// One that does not listen yet, because somebody else has its port, has hung up for systemd.
		if fd := k.store[name].fd; fd >= 0 && !k.wasPassed(fd) && (isListening(fd) || isDatagram(fd)) {
			own = append(own, name)
		}
	}
	return own
}

func (k *keeper) wasPassed(fd int) bool {
	for _, name := range k.store.names(EntryPassed + "/") {
		if sameFile(k.store[name].fd, fd) {
			return true
		}
	}
	return false
}

func (k *keeper) giveSocket(name, fdname string) {
	text := "FDSTORE=1\nFDNAME=" + fdname + "\n"
	fd := k.store[name].fd
	if isDatagram(fd) {
		text += "FDPOLL=0\n" // an error that somebody's answer has caused is not its end
	}
	if err := k.systemd.give(fd, text); err != nil {
		k.log.Error("keeper: systemd's store", "error", err)
	}
}

// writeStored writes the list, in place: systemd has the same file.
func (k *keeper) writeStored() error {
	list := storedSockets{Version: storedVersion}
	for _, name := range slices.Sorted(maps.Keys(k.systemd.store.kept)) {
		e := k.store[name]
		list.Sockets = append(list.Sockets, stored{FDName: k.systemd.store.kept[name], Entry: name, Data: e.data, Unlink: e.unlink})
	}
	b, err := wire.Marshal(list)
	if err != nil {
		return err
	}
	e, old := k.store[entryStored]
	if !old {
		if e.fd, err = unix.MemfdCreate("list", unix.MFD_CLOEXEC); err != nil {
			return fmt.Errorf("memory file: %w", err)
		}
		k.store.put(entryStored, e)
	}
	if _, err := unix.Pwrite(e.fd, b, 0); err != nil {
		return fmt.Errorf("memory file: write: %w", err)
	}
	if err := unix.Ftruncate(e.fd, int64(len(b))); err != nil {
		return fmt.Errorf("memory file: truncate: %w", err)
	}
	if old {
		return nil
	}
	return k.systemd.give(e.fd, "FDSTORE=1\nFDNAME="+storedList+"\nFDPOLL=0\n")
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
	for _, n := range f.kept {
		if n == fdname {
			return true
		}
	}
	return fdname == storedList
}

// dropListeners closes the listening sockets of a program that ends. Of those that systemd keeps the paths stay.
func (k *keeper) dropListeners() {
	for _, name := range k.store.names(EntryListen + "/") {
		if e := k.store[name]; k.systemd.store.kept[name] != "" {
			e.unlink = wire.Path{}
			k.store[name] = e
		}
		k.store.drop(name)
	}
	for _, name := range k.store.names(EntryPassed + "/") {
		k.store.drop(name)
	}
}
