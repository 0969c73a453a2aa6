package listen

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Listener is a listener of the configuration: see master.Listen.
type Listener struct {
	Name       string // by default the address
	Address    string
	Transport  string // by default tcp
	Process    string
	ReusePort  bool
	NoHandover bool
}

// listener is a Listener without defaults, and where it is.
type listener struct {
	Listener
	addr Addr
}

// perSlot reports whether each slot has a socket of its own: with TCP only, as the others have one queue for all.
func (l listener) perSlot() bool { return l.ReusePort && l.addr.network == "tcp" }

// Limits of a configuration's listeners: a message is at most 64 KB. Some name all of them, and some have all about
// one.
const (
	MaxListeners = 512
	maxBytes     = 2048 // of an address, and of a name
)

// An Error says why one of a configuration's listeners cannot be served.
type Error struct {
	Index int // of the listener
	Other int // the earlier one that has the same name or address; -1: the listener is wrong by itself
	Name  string
	Err   error
}

func (e *Error) Error() string { return fmt.Sprintf("config: listen %s: %v", e.Name, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// ExitCode is that of a user's mistake, unless nobody could say what an address means.
func (e *Error) ExitCode() int {
	var dns *net.DNSError
	if errors.As(e.Err, &dns) && (dns.IsTemporary || dns.IsTimeout) {
		return 111
	}
	return 100
}

// Check says what is wrong with listeners, as far as it can be said without opening them: see master.CheckListen.
func Check(all []Listener, dir string) []*Error {
	_, errs := check(all, func(l Listener) (Addr, error) { return Resolve(l.Address, l.Transport, dir) })
	return errs
}

// check is Check, and says where the listeners are.
func check(all []Listener, resolve func(Listener) (Addr, error)) (found []listener, errs []*Error) {
	if len(all) > MaxListeners {
		err := fmt.Errorf("%d listeners, want at most %d", len(all), MaxListeners)
		return nil, []*Error{{MaxListeners, -1, all[MaxListeners].Name, err}}
	}
	for i, l := range all {
		l.Name, l.Transport = cmp.Or(l.Name, l.Address), cmp.Or(l.Transport, "tcp")
		err := l.tooLong()
		var addr Addr
		if err == nil {
			addr, err = resolve(l)
		}
		found = append(found, listener{l, addr})
		other := -1
		for j := 0; j < i && err == nil; j++ {
			if err = clash(found[i], found[j]); err != nil {
				other = j
			}
		}
		if err != nil {
			errs = append(errs, &Error{i, other, l.Name, err})
		}
	}
	return found, errs
}

func (l Listener) tooLong() error {
	switch {
	case len(l.Address) > maxBytes:
		return fmt.Errorf("an address of %d bytes, want at most %d", len(l.Address), maxBytes)
	case len(l.Name) > maxBytes:
		return fmt.Errorf("a name of %d bytes, want at most %d", len(l.Name), maxBytes)
	}
	return nil
}

// clash is why two listeners cannot both be served, or nil, also if it is not known where o is.
func clash(l, o listener) error {
	same := l.addr == o.addr && !l.addr.isFree()
	switch {
	case o.addr == Addr{}:
		return nil
	case same && l.Address == o.Address:
		return fmt.Errorf("address %s is used twice", l.Address)
	case same:
		return fmt.Errorf("address %s is %s, the same as that of listener %s", l.Address, l.addr, o.Name)
	case l.Name == o.Name && (l.addr.network == "udp") == (o.addr.network == "udp"):
		return fmt.Errorf("name %s is used twice", l.Name)
	}
	return nil
}

// CheckHere fails if the machine does not have the address of a listener now. No port is taken.
func CheckHere(l Listener, dir string) error {
	a, err := Resolve(l.Address, l.Transport, dir)
	if err != nil || a.network == "unix" {
		return err
	}
	anyPort := Addr{network: "udp", ip: netip.AddrPortFrom(a.ip.Addr(), 0)}
	fd, err := newSocket(anyPort)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := bindIP(fd, anyPort); err != nil {
		return fmt.Errorf("listen %s: %w", a, err)
	}
	return nil
}
