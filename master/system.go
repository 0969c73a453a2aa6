package master

import (
	"fmt"

	"baton/master/internal/message"

	"golang.org/x/sys/unix"

	"baton/master/internal/spawn"
	"baton/master/internal/supervisor"
	"baton/master/internal/upgrade"
	"baton/worker/rawfd"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// link is one end of a conversation, with the supervisor or with a worker: a [seqpacket.Conn].
type link interface {
	Post(m wire.Message, fds ...int) error
	Recv() (seqpacket.Packet, error)
	StopReading()
	HungUp() bool
	Flush()
	Close() error
}

// upgrader starts the successor: an [upgrade.Upgrader].
type upgrader interface {
	Start(args []string, title string, env map[string]string) error
	Ready()
}

// system is what a master needs of the kernel: processes, and conversations with them. Tests have one that is virtual.
type system interface {
	// hello begins the conversation with the supervisor.
	hello(m message.Hello) (link, upgrader, error)

	// start starts a worker. control is a raw descriptor of the same conversation, for the registry.
	start(s spawn.Spec) (pid int, conn link, control int, err error)

	// adopt makes a conversation of a raw descriptor, which it takes.
	adopt(control int) (link, error)

	// wait reaps a child, and reports whether it has exited.
	wait(pid int, options int) (status unix.WaitStatus, exited bool)

	// kill sends KILL to a child that is not reaped.
	kill(pid int)

	// handle returns what names a process even if its number becomes another one's; killHandle sends KILL to it.
	handle(pid int) (pidfd int, err error)
	killHandle(pidfd int)
}

// linux is the system.
type linux struct{}

func (linux) hello(m message.Hello) (link, upgrader, error) {
	upg, registration, err := upgrade.Open(supervisor.RegistrationEnv)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = unix.Close(registration) }()
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = unix.Close(theirs) }()
	conn, err := seqpacket.New(ours)
	if err != nil {
		return nil, nil, err
	}
	hello, err := wire.Encode(m)
	if err == nil {
		err = unix.Sendmsg(registration, hello, unix.UnixRights(theirs), nil, unix.MSG_NOSIGNAL)
	}
	if err != nil {
		_ = conn.Close()
		return nil, nil, fmt.Errorf("hello: %w", err)
	}
	return conn, upg, nil
}

func (linux) start(s spawn.Spec) (pid int, conn link, control int, err error) {
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		return 0, nil, -1, err
	}
	defer func() { _ = unix.Close(theirs) }()
	if control, err = rawfd.Dup(ours); err != nil {
		_ = unix.Close(ours)
		return 0, nil, -1, err
	}
	c, err := seqpacket.New(ours)
	if err != nil {
		_ = unix.Close(control)
		return 0, nil, -1, err
	}
	s.Control = theirs
	if pid, err = spawn.Start(s); err != nil {
		_ = unix.Close(control)
		_ = c.Close()
		return 0, nil, -1, err
	}
	return pid, c, control, nil
}

func (linux) adopt(control int) (link, error) { return seqpacket.New(control) }

func (linux) wait(pid int, options int) (status unix.WaitStatus, exited bool) {
	got, err := unix.Wait4(pid, &status, options, nil)
	return status, got == pid || err == unix.ECHILD
}

func (linux) kill(pid int) { _ = unix.Kill(pid, unix.SIGKILL) }

func (linux) handle(pid int) (pidfd int, err error) { return unix.PidfdOpen(pid, 0) }

func (linux) killHandle(pidfd int) { _ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0) }
