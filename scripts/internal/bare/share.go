package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/sock"
)

// ways are those in which processes share a port.
var ways = []string{
	wayAll,      // one socket, package net: all who wait are woken
	wayTurns,    // one socket, package sock: a connection wakes one of those that wait
	wayBalanced, // the same, and a process that is ahead of another lets it go first
	wayBlocking, // one socket, a thread of each process blocks in accept(2)
	waySlots,    // a socket for each process (SO_REUSEPORT), package net
}

const (
	wayAll      = "all"
	wayTurns    = "turns"
	wayBalanced = "balanced"
	wayBlocking = "blocking"
	waySlots    = "slots"
)

// childEnv tells a process that it is one of those that serve, and which.
const childEnv = "BARE_CHILD"

// share serves in n processes until it is told to end, and ends them. Like baton's workers they share the CPUs.
func share(address, way string, n int, h http.Handler) error {
	if os.Getenv(childEnv) != "" {
		return serveShared(way, h)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	lc := net.ListenConfig{}
	if way == waySlots {
		lc.Control = func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT,
					1)
			})
		}
	}
	fd, err := sock.NewBalance(n)
	if err != nil {
		return err
	}
	balance := os.NewFile(uintptr(fd), "balance")
	failed := make(chan error, n)
	var file *os.File
	for i := range n {
		if i == 0 || way == waySlots {
			ln, err := lc.Listen(ctx, "tcp", address)
			if err != nil {
				return err
			}
			if file, err = ln.(*net.TCPListener).File(); err != nil {
				return err
			}
			_ = ln.Close() // it would be woken for every connection
		}
		cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
		cmd.Args[0] = os.Args[0]
		cmd.Stderr, cmd.ExtraFiles = os.Stderr, []*os.File{file, balance}
		cpus := max(1, runtime.NumCPU()/n)
		cmd.Env = append(os.Environ(), childEnv+"="+strconv.Itoa(i), "GOMAXPROCS="+strconv.Itoa(cpus))
		if err := cmd.Start(); err != nil {
			return err
		}
		go func() { failed <- cmd.Wait() }()
	}
	for i := range n {
		if e := <-failed; i == 0 && ctx.Err() == nil {
			err = fmt.Errorf("a process has ended: %w", e)
			stop()
		}
	}
	return err
}

// serveShared serves on the socket that it was given.
func serveShared(way string, h http.Handler) error {
	const fd, balanceFD = 3, 4
	var ln net.Listener
	var err error
	switch way {
	case wayAll, waySlots:
		ln, err = net.FileListener(os.NewFile(fd, "listener"))
	case wayTurns:
		ln, err = sock.Listen(fd, nil)
	case wayBalanced:
		mine, _ := strconv.Atoi(os.Getenv(childEnv))
		balance, berr := sock.OpenBalance(balanceFD, mine)
		if berr != nil {
			return berr
		}
		ln, err = sock.Listen(fd, balance)
	case wayBlocking:
		runtime.LockOSThread() // which also calls Accept
		ln, err = blocking(fd), unix.SetNonblock(fd, false)
	default:
		err = errors.New("there is no such way")
	}
	if err != nil {
		return err
	}
	return http.Serve(ln, h)
}

// blocking is a listening socket whose Accept blocks a thread in the kernel.
type blocking int

func (b blocking) Accept() (net.Conn, error) {
	for {
		fd, _, err := unix.Accept4(int(b), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
			time.Sleep(time.Millisecond)
		case err != nil:
			return nil, err
		default:
			f := os.NewFile(uintptr(fd), "conn")
			defer func() { _ = f.Close() }()
			return net.FileConn(f)
		}
	}
}

func (b blocking) Close() error   { return unix.Close(int(b)) }
func (b blocking) Addr() net.Addr { return &net.TCPAddr{} }
