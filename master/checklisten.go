package master

import (
	"errors"
	"fmt"
	"net"

	"baton/master/internal/sockets"
)

// Limits of a configuration's listeners: a message is at most 64 KB. Some name all of them, and some have all about
// one.
const (
	MaxListeners   = 512
	maxListenBytes = 2048 // of an address, and of a name
)

// A ListenError says why one of a configuration's listeners cannot be served.
type ListenError struct {
	Index int // of the listener, in Config.Listen
	Other int // the earlier one that has the same name or address; -1: the listener is wrong by itself
	Name  string
	Err   error
}

func (e *ListenError) Error() string { return fmt.Sprintf("config: listen %s: %v", e.Name, e.Err) }
func (e *ListenError) Unwrap() error { return e.Err }

// ExitCode is that of a user's mistake, unless nobody could say what an address means.
func (e *ListenError) ExitCode() int {
	var dns *net.DNSError
	if errors.As(e.Err, &dns) && (dns.IsTemporary || dns.IsTimeout) {
		return exitSystem
	}
	return exitUser
}

// CheckListen says what is wrong with a configuration's listeners, as far as it can be said without opening them: a
// start and a reload ask the same. Names of machines are looked up; relative paths begin at dir.
//
// Addresses may overlap, as ":8080" and "127.0.0.1:8080" do: a connection goes to the narrowest one that it fits. They
// must not be the same, however they are written, unless one is of UDP and the other is not; nor must names.
func CheckListen(all []Listen, dir string) []*ListenError {
	_, errs := resolveListen(all, func(l Listen) (sockets.Addr, error) {
		return sockets.Resolve(l.Address, l.transport(), dir)
	})
	return errs
}

// CheckHere fails if this machine does not have the address of a listener, which [CheckListen] has found to be right. It is
// for who asks before a start: a reload goes on with the sockets that there are, also when their address has moved to
// another machine.
func CheckHere(all []Listen, dir string) error {
	for _, l := range all {
		a, err := sockets.Resolve(l.Address, l.transport(), dir)
		if err == nil {
			err = a.Here()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// resolveListen is CheckListen, and where the listeners are.
func resolveListen(all []Listen, resolve func(Listen) (sockets.Addr, error)) ([]sockets.Addr, []*ListenError) {
	var errs []*ListenError
	wrong := func(i, other int, err error) {
		errs = append(errs, &ListenError{Index: i, Other: other, Name: all[i].name(), Err: err})
	}
	if len(all) > MaxListeners {
		wrong(MaxListeners, -1, fmt.Errorf("%d listeners, want at most %d", len(all), MaxListeners))
		return nil, errs
	}
	addrs := make([]sockets.Addr, len(all))
	for i, l := range all {
		err := l.tooLong()
		if err == nil {
			addrs[i], err = resolve(l)
		}
		if err != nil {
			wrong(i, -1, err)
			continue
		}
		for j := range i {
			if err := clash(l, addrs[i], all[j], addrs[j]); err != nil {
				wrong(i, j, err)
				break
			}
		}
	}
	return addrs, errs
}

func (l Listen) tooLong() error {
	switch {
	case len(l.Address) > maxListenBytes:
		return fmt.Errorf("an address of %d bytes, want at most %d", len(l.Address), maxListenBytes)
	case len(l.Name) > maxListenBytes:
		return fmt.Errorf("a name of %d bytes, want at most %d", len(l.Name), maxListenBytes)
	}
	return nil
}

// clash is why two listeners cannot both be served, or nil. b is zero if it is not known where o is.
func clash(l Listen, a sockets.Addr, o Listen, b sockets.Addr) error {
	switch {
	case b == (sockets.Addr{}):
		return nil
	case sockets.Relate(a, b) == sockets.Same && l.Address == o.Address:
		return fmt.Errorf("address %s is used twice", l.Address)
	case sockets.Relate(a, b) == sockets.Same:
		return fmt.Errorf("address %s is %s, the same as that of listener %s", l.Address, a, o.name())
	case l.name() == o.name() && (a.Network == "udp") == (b.Network == "udp"):
		return fmt.Errorf("name %s is used twice", l.name())
	}
	return nil
}
