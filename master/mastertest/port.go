package mastertest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
)

// given are the addresses that FreePort has returned.
var given sync.Map

// FreePort is an address on the loopback with a port that nobody listens on. No other call of this test run gets the
// same one. It lies below the range from which the kernel takes ports for connections, else a client of another test
// could have it in the next moment.
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
		if Bindable(address) != nil {
			continue
		}
		if _, taken := given.LoadOrStore(address, true); !taken {
			return address, nil
		}
	}
	return "", errors.New("no free port")
}

// Bindable says whether a port, or the path of a Unix socket, is free, with the reason if it is not. Connections of the
// past that linger in TIME_WAIT do not count.
func Bindable(address string) error {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s is still there", path)
		}
		return nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("%s is not free: %w", address, err)
	}
	return l.Close()
}
