package seqpacket

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"baton/worker/wire"
)

// FuzzRecv: whatever comes with however many descriptors is a message, or an error, and no descriptor of it stays open.
func FuzzRecv(f *testing.F) {
	for i, s := range []string{
		"", "x", `{"v":1,"t":"go"}`, `{"v":1,"t":"setup","m":{"listeners":[{}]}}`, strings.Repeat("[", 70_000),
	} {
		f.Add([]byte(s), uint8(i*70))
	}
	f.Fuzz(func(t *testing.T, data []byte, n uint8) {
		before := openFiles(t)
		x, y := rawPair(t)
		c := conn(t, y)
		fds := make([]int, min(int(n), 253))
		for i := range fds {
			fds[i] = x
		}
		var oob []byte
		if len(fds) > 0 {
			oob = unix.UnixRights(fds...)
		}
		if err := unix.Sendmsg(x, data, oob, nil, unix.MSG_DONTWAIT); err != nil {
			t.Skip(err) // it is too large for the socket
		}
		p, err := c.Recv()
		switch {
		case len(data) == 0 && len(fds) == 0 && !errors.Is(err, io.EOF): // with descriptors, package unix sends a byte
			t.Errorf("an empty message: %v", err)
		case err == nil && (len(p.FDs) != len(fds) || p.Frame.T == "" || len(data) > wire.MaxFrame):
			t.Errorf("%d bytes, %d of %d descriptors, %+v", len(data), len(p.FDs), len(fds), p.Frame)
		case err != nil && len(p.FDs) > 0:
			t.Errorf("%d descriptors with the error %v", len(p.FDs), err)
		}
		p.Close()
		_ = c.Close()
		_ = unix.Close(x)
		if after := openFiles(t); after != before {
			t.Errorf("%d descriptors before, %d after", before, after)
		}
	})
}

func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
