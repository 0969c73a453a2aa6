package httpworker

import (
	"io"
	"net/http"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
)

// The last response and the end of the connection come together: whoever waits for the one has the other as well.
func TestEndComesWithTheLastResponse(t *testing.T) {
	t.Parallel()
	const n = 60
	p := start(t, Settings{})
	together := 0
	for range n {
		c := dial(t, p)
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		c.send("GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if err := raw.Control(func(fd uintptr) {
			ev := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}}
			for {
				if n, err := unix.Poll(ev, int(never/time.Millisecond)); err != unix.EINTR || n > 0 {
					break
				}
			}
			if ev[0].Revents&unix.POLLRDHUP != 0 {
				together++
			}
		}); err != nil {
			t.Fatal(err)
		}
		c.want(http.StatusOK, "/a")
		_ = c.Close()
	}
	if together < n-2 { // two segments meet now and then, too, and poll(2) may look in between
		t.Errorf("%d of %d", together, n)
	}
}

// TestCorkIsTakenBack: on a connection that goes on after all, nothing waits.
func TestCorkIsTakenBack(t *testing.T) {
	t.Parallel()
	p := start(t, Settings{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := r.Context().Value(connKey{}).(*conn)
		if on := corked(t, c); on != 0 {
			t.Errorf("%s: corked", r.URL.Path)
		}
		if r.URL.Path == "/first" {
			c.cork(&http.Request{Close: true, ProtoMajor: 1})
			if on := corked(t, c); on != 1 {
				t.Error("not corked")
			}
		}
		_, _ = io.WriteString(w, r.URL.Path)
	})})
	c := dial(t, p)
	for _, path := range []string{"/first", "/second"} {
		c.send("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")
		c.want(http.StatusOK, path)
	}
}

// corked returns the socket option.
func corked(t *testing.T, c *conn) (on int) {
	t.Helper()
	err := rawfd.Control(c, func(fd int) (err error) {
		on, err = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_CORK)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return on
}
