package program

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
)

// address is where an instance listens.
type address struct {
	network, name string
	port          int // of 127.0.0.1; 0: a Unix socket
	release       func()
}

func (a *address) String() string { return a.name }

// portTries is how many ports are tried; more than a few are taken only on a machine that has none left.
const portTries = 64

// newPort returns a port of 127.0.0.1 that nobody listens on, and that is held against all other instances until it is
// released. It is outside of the range from which the kernel takes the ports of outgoing connections: one of them could
// have it before the instance does.
func newPort() (*address, error) {
	low, high := ephemeralPorts()
	for range portTries {
		port := 1024 + rand.IntN(65536-1024)
		if port >= low && port <= high {
			continue
		}
		hold, err := net.Listen("unix", fmt.Sprintf("@baton-port-%d", port))
		if err != nil {
			continue
		}
		name := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		ln, err := net.Listen("tcp", name)
		if err != nil {
			_ = hold.Close()
			continue
		}
		_ = ln.Close()
		return &address{network: "tcp", name: name, port: port, release: func() { _ = hold.Close() }}, nil
	}
	return nil, fmt.Errorf("no port is free outside of %d-%d", low, high)
}

// ephemeralPorts is the kernel's range, or its default where it is not told.
func ephemeralPorts() (low, high int) {
	low, high = 32768, 60999
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if f := strings.Fields(string(b)); err == nil && len(f) == 2 {
		l, err1 := strconv.Atoi(f[0])
		h, err2 := strconv.Atoi(f[1])
		if err1 == nil && err2 == nil && l > 1024 {
			return l, h
		}
	}
	return low, high
}
