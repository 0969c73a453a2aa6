package mastertest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// claims are the ports that PickPort has given out, each held by a socket with an abstract name of its own until this
// process ends: what other processes do with [PickPort] at the same time gets other ports.
var claims sync.Map // address -> net.Listener

// FreePort returns an address on the loopback with a port that nobody listens on. No other call gets the same one, in
// this test run or in another that goes on beside it. It lies outside of the range from which the kernel takes ports
// for connections, else a client of another test could have it in the next moment.
func FreePort(tb testing.TB) string {
	tb.Helper()
	address, err := PickPort()
	if err != nil {
		tb.Fatal(err)
	}
	return address
}

// PickPort is [FreePort] for programs that are no tests.
func PickPort() (string, error) {
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(20000))
		claim, err := net.Listen("unix", "@baton-test-"+address)
		if err != nil {
			continue
		}
		if err := Bindable(address); err != nil {
			claim.Close()
			continue
		}
		claims.Store(address, claim)
		return address, nil
	}
	return "", errors.New("no free port")
}

// Bindable returns nil if a port, or the path of a Unix socket, is free, else the reason. Connections of the
// past that linger in TIME_WAIT do not count.
func Bindable(address string) error {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s is still there", path)
		}
		return nil
	}
	// A child that is forked now would have the socket too, until its exec, and the port would not be free for so long.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("%s is not free: %w", address, err)
	}
	return l.Close()
}
