package handover

import (
	"io"
	"net"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
)

// A connection is opened as what it is, and the descriptor stays the caller's.
func TestOpen(t *testing.T) {
	t.Parallel()
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "s")} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = ln.Close() }()
			client, err := net.Dial(network, ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = client.Close() }()
			server, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			fd, err := rawfd.Of(server)
			if err != nil {
				t.Fatal(err)
			}
			_ = server.Close()
			c, err := Conn{FD: fd}.Open()
			if err != nil {
				t.Fatal(err)
			}
			if c.LocalAddr().String() != server.LocalAddr().String() || c.LocalAddr().Network() != network {
				t.Errorf("%v, want %v", c.LocalAddr(), server.LocalAddr())
			}
			if _, err := io.WriteString(c, "hello"); err != nil {
				t.Error(err)
			}
			_ = c.Close()
			if _, err := unix.Write(fd, []byte(" again")); err != nil {
				t.Error(err)
			}
			if err := unix.Close(fd); err != nil {
				t.Error(err)
			}
			if b, err := io.ReadAll(client); string(b) != "hello again" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
}
