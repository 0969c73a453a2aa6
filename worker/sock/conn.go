package sock

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Conn is a TCP connection. Its errors are those of package net.
//
// Threading: that of net.Conn.
type Conn struct {
	file   *os.File
	remote net.Addr
	local  net.Addr // once asked, if it was not known
	asked  sync.Once
}

// New makes a Conn of a connection's descriptor, which it takes, also when it fails. It must be non-blocking.
func New(fd int) (*Conn, error) {
	remote, err := nameOf(fd, unix.Getpeername)
	if err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("getpeername", err)
	}
	return newConn(fd, nil, remote)
}

// newConn takes fd. If local is nil the kernel is asked when somebody asks for it.
func newConn(fd int, local net.Addr, remote net.Addr) (*Conn, error) {
	c := &Conn{file: os.NewFile(uintptr(fd), "conn"), remote: remote, local: local}
	if local != nil {
		c.asked.Do(func() {})
	}
	if err := c.file.SetDeadline(time.Time{}); err != nil { // the runtime cannot poll it
		_ = c.file.Close()
		return nil, unix.ENOMEM
	}
	return c, nil
}

func (c *Conn) askLocal() {
	c.local = &net.TCPAddr{}
	raw, err := c.file.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		if a, err := nameOf(int(fd), unix.Getsockname); err == nil {
			c.local = a
		}
	})
}

// Read is that of net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.file.Read(b)
	if err != nil && err != io.EOF { //nolint:errorlint // it is bare
		err = c.explain("read", err)
	}
	return n, err
}

// Write is that of net.Conn.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.file.Write(b)
	if err != nil {
		err = c.explain("write", err)
	}
	return n, err
}

// Close is that of net.Conn.
func (c *Conn) Close() error {
	if err := c.file.Close(); err != nil {
		return c.explain("close", err)
	}
	return nil
}

// CloseWrite tells the other side that nothing more will come.
func (c *Conn) CloseWrite() (err error) {
	raw, err := c.file.SyscallConn()
	if err == nil {
		cerr := raw.Control(func(fd uintptr) { err = os.NewSyscallError("shutdown", unix.Shutdown(int(fd), unix.SHUT_WR)) })
		if cerr != nil {
			err = cerr
		}
	}
	if err != nil {
		return c.explain("close", err)
	}
	return nil
}

// LocalAddr is our end.
func (c *Conn) LocalAddr() net.Addr {
	c.asked.Do(c.askLocal)
	return c.local
}

// RemoteAddr is the other side's end.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline is that of net.Conn.
func (c *Conn) SetDeadline(t time.Time) error { return c.set(c.file.SetDeadline(t)) }

// SetReadDeadline is that of net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.set(c.file.SetReadDeadline(t)) }

// SetWriteDeadline is that of net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.set(c.file.SetWriteDeadline(t)) }

func (c *Conn) set(err error) error {
	if err != nil {
		return c.explain("set", err)
	}
	return nil
}

// SyscallConn is the socket.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.file.SyscallConn() }

func (c *Conn) explain(op string, err error) error { return opError(op, c.LocalAddr(), c.remote, err) }

// closedFile is what package os says of a closed file where it does not say os.ErrClosed: its RawConn, and its deadlines.
const closedFile = "use of closed file"

// opError makes of a file's error what package net makes of it.
func opError(op string, source, addr net.Addr, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	var errno syscall.Errno
	switch {
	case errors.Is(err, os.ErrClosed), err.Error() == closedFile:
		err = net.ErrClosed
	case errors.As(err, &errno):
		err = os.NewSyscallError(op, errno)
	}
	return &net.OpError{Op: op, Net: "tcp", Source: source, Addr: addr, Err: err}
}

// nameOf asks the kernel for one of a socket's two ends.
func nameOf(fd int, ask func(int) (unix.Sockaddr, error)) (*net.TCPAddr, error) {
	sa, err := ask(fd)
	if err != nil {
		return nil, err
	}
	addr := addrOf(sa)
	if addr == nil {
		return nil, fmt.Errorf("a %T: %w", sa, unix.EAFNOSUPPORT)
	}
	return addr, nil
}

// addrOf returns nil for what is not TCP.
func addrOf(sa unix.Sockaddr) *net.TCPAddr {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *unix.SockaddrInet6:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port, Zone: zone(int(sa.ZoneId))}
	}
	return nil
}

func zone(index int) string {
	if index == 0 {
		return ""
	}
	ifi, err := net.InterfaceByIndex(index)
	if err != nil {
		return fmt.Sprint(index)
	}
	return ifi.Name
}
