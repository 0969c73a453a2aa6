package listen

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRelate is the table of what overlaps. Each line holds the other way round as well.
func TestRelate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.Mkdir(in("run"), 0o700), os.Symlink("run", in("link"))); err != nil {
		t.Fatal(err)
	}
	const (
		apart = iota // nothing in common
		same
		wider    // a gets what b does not
		narrower // the other way round
	)
	inverse := map[int]int{apart: apart, same: same, wider: narrower, narrower: wider}
	relate := func(a, b Addr) int {
		p, q := a.place("x"), b.place("y")
		switch pq, qp := p.covers(q), q.covers(p); {
		case p.overlaps(q) != (pq || qp) || p.overlaps(q) != q.overlaps(p):
			t.Errorf("%v and %v: overlap is %v", a, b, p.overlaps(q))
			return apart
		case pq && qp:
			return same
		case pq:
			return wider
		case qp:
			return narrower
		}
		return apart
	}
	for _, tt := range []struct {
		a, b string // transport address
		want int
	}{
		{"tcp 127.0.0.1:80", "tcp 127.0.0.1:80", same},
		{"tcp 127.0.0.1:80", "tls 127.0.0.1:80", same},
		{"tcp 127.0.0.1:80", "udp 127.0.0.1:80", apart},
		{"udp 127.0.0.1:80", "udp 127.0.0.1:080", same},
		{"tcp 127.0.0.1:80", "tcp 127.0.0.1:81", apart},
		{"tcp 127.0.0.1:80", "tcp 127.0.0.2:80", apart},
		{"tcp 127.0.0.1:80", "tcp localhost:80", same},
		{"tcp 127.0.0.1:80", "tcp 127.0.0.1:http", same},
		{"tcp 127.0.0.1:80", "tcp [::ffff:127.0.0.1]:80", same},
		{"tcp [::1]:80", "tcp [0:0::1]:80", same},
		{"tcp [::1]:80", "tcp 127.0.0.1:80", apart},
		{"tcp [fe80::1%1]:80", "tcp [fe80::1%2]:80", apart},
		{"tcp :80", "tcp [::]:80", same},
		{"tcp :80", "tcp 0.0.0.0:80", wider},
		{"tcp [::]:80", "tls 0.0.0.0:80", wider},
		{"tcp :80", "tcp 127.0.0.1:80", wider},
		{"tcp :80", "tcp localhost:80", wider},
		{"tcp :80", "tcp [::1]:80", wider},
		{"udp :80", "udp [::1]:80", wider},
		{"tcp :80", "udp 127.0.0.1:80", apart},
		{"tcp 0.0.0.0:80", "tcp 127.0.0.1:80", wider},
		{"tcp 0.0.0.0:80", "tcp [::1]:80", apart},
		{"tcp 0.0.0.0:80", "tcp 127.0.0.1:81", apart},
		{"tcp :0", "tcp :0", apart},
		{"tcp :0", "tcp 127.0.0.1:0", apart},
		{"tcp unix:s", "tcp unix:s", same},
		{"tcp unix:s", "tls unix:./a/../s", same},
		{"tcp unix:s", "tcp unix:t", apart},
		{"tcp unix:run/s", "tcp unix:link/s", same},
		{"tcp unix:run/s", "tcp unix:link/../run/./s", same},
		{"tcp unix:nowhere/s", "tcp unix:nowhere/./s", same},
		{"tcp unix:80", "tcp :80", apart},
	} {
		var all [2]Addr
		for i, s := range []string{tt.a, tt.b} {
			transport, address, _ := strings.Cut(s, " ")
			a, err := Resolve(address, transport, dir)
			if err != nil {
				t.Fatal(err)
			}
			all[i] = a
		}
		if got := relate(all[0], all[1]); got != tt.want {
			t.Errorf("%s and %s: %d, want %d", tt.a, tt.b, got, tt.want)
		}
		if got := relate(all[1], all[0]); got != inverse[tt.want] {
			t.Errorf("%s and %s: %d, want %d", tt.b, tt.a, got, inverse[tt.want])
		}
		if one := all[0].key("x", Shared) == all[1].key("y", Shared); one != (tt.want == same) {
			t.Errorf("%s and %s: one key is %v", tt.a, tt.b, one)
		}
	}
}

// TestOverlappingSocketsListen: what overlaps and is shared listens, in whatever order, and a connection goes to the
// narrowest address that it fits.
func TestOverlappingSocketsListen(t *testing.T) {
	t.Parallel()
	if !haveIPv6() {
		t.Skip("no IPv6")
	}
	first := boundTo(t, resolve(t, ":0", "tcp"))
	_, port, err := net.SplitHostPort(Local(first))
	if err != nil {
		t.Fatal(err)
	}
	fds := map[string]int{"::": first}
	for _, host := range []string{"0.0.0.0", "127.0.0.1", "::1"} {
		fds[host] = boundTo(t, resolve(t, net.JoinHostPort(host, port), "tcp"))
	}
	for _, fd := range fds {
		if err := shareAddress(fd); err != nil {
			t.Fatal(err)
		}
	}
	for host, fd := range fds {
		if err := listen(fd); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	for to, want := range map[string]string{"127.0.0.1": "127.0.0.1", "127.0.0.2": "0.0.0.0", "::1": "::1"} {
		c, err := net.Dial("tcp", net.JoinHostPort(to, port))
		if err != nil {
			t.Fatal(err)
		}
		for host, fd := range fds {
			got, _, err := unix.Accept(fd)
			if err == nil {
				_ = unix.Close(got)
			}
			if (err == nil) != (host == want) {
				t.Errorf("to %s: the socket on %s: %v", to, host, err)
			}
		}
		_ = c.Close()
	}
}

// TestIPv4WildcardIsIPv4: and what net.ipv6.bindv6only says does not matter for the other one.
func TestIPv4WildcardIsIPv4(t *testing.T) {
	t.Parallel()
	if !haveIPv6() {
		t.Skip("no IPv6")
	}
	fd := listeningAt(t, resolve(t, "0.0.0.0:0", "tcp"))
	_, port, _ := net.SplitHostPort(Local(fd))
	if c, err := net.Dial("tcp", "127.0.0.1:"+port); err != nil {
		t.Error(err)
	} else {
		_ = c.Close()
	}
	if c, err := net.Dial("tcp", "[::1]:"+port); err == nil {
		_ = c.Close()
		t.Error("0.0.0.0 answers on ::1")
	}
	both := boundTo(t, resolve(t, "[::]:0", "tcp"))
	if v, err := unix.GetsockoptInt(both, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY); err != nil || v != 0 {
		t.Errorf("[::]: IPV6_V6ONLY is %d, %v", v, err)
	}
}

// TestLongKeys: a message has room for the keys of many listeners, however long their names and paths are.
func TestLongKeys(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 4000)
	var keys []string
	for _, address := range []string{"unix:/" + long, "unix:/" + long + "y", "127.0.0.1:0"} {
		keys = append(keys, resolve(t, address, "tcp").key(long, Shared), resolve(t, address, "tcp").key(long, 1))
	}
	slices.Sort(keys)
	if n := len(slices.Compact(slices.Clone(keys))); n != len(keys) {
		t.Errorf("%d keys of %d: %q", n, len(keys), keys)
	}
	for _, k := range keys {
		if len(k) > longestKey+len("/1") {
			t.Errorf("%d bytes: %s", len(k), k)
		}
	}
}
