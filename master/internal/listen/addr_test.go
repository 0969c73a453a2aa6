package listen

import (
	"path/filepath"
	"strings"
	"testing"
)

func resolve(t *testing.T, address, transport string) Addr {
	t.Helper()
	a, err := Resolve(address, transport, "/work")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// The same address is the same key, however it is written; another one is another.
func TestKeys(t *testing.T) {
	t.Parallel()
	for _, same := range [][]string{
		{":8080", "[::]:8080", "[0:0::]:08080"},
		{"0.0.0.0:8080", "[::ffff:0.0.0.0]:8080"},
		{"127.0.0.1:8080", "[::ffff:127.0.0.1]:8080"},
		{"[::1]:8080", "[0:0::1]:8080"},
		{"127.0.0.1:80", "127.0.0.1:http"},
		{"127.0.0.1:8081"},
		{"unix:/work/a/s", "/work/a/s", "unix:a/s", "unix:./a/../a//s"},
		{"unix:/work/a/t"},
	} {
		key := resolve(t, same[0], "tcp").key("x", 0)
		for _, address := range same {
			a := resolve(t, address, "tcp")
			if got := a.key("y", 0); got != key {
				t.Errorf("%s is %s, and %s is %s", address, got, same[0], key)
			}
			if got := resolve(t, address, "tls").key("y", 0); got != key {
				t.Errorf("%s under tls is %s, under tcp %s", address, got, key)
			}
			if strings.Contains(key, "unix") {
				continue
			}
			if got := resolve(t, address, "udp").key("y", 0); got == key {
				t.Errorf("%s: udp and tcp are both %s", address, key)
			}
		}
		if resolve(t, same[0], "tcp").key("x", 1) == key {
			t.Errorf("%s: two slots have one key", same[0])
		}
	}
}

func TestKeysAreDistinct(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, address := range []string{
		":8080", ":8081", "127.0.0.1:8080", "127.0.0.2:8080", "[::1]:8080", "0.0.0.0:8080", "/a", "/b", "/a/0",
	} {
		key := resolve(t, address, "tcp").key("x", 0)
		if other, ok := seen[key]; ok {
			t.Errorf("%s and %s are both %s", address, other, key)
		}
		seen[key] = address
	}
}

// With port 0 the kernel chooses: two listeners are two sockets, and each keeps its own over reloads.
func TestKeyOfPortZeroHasTheName(t *testing.T) {
	t.Parallel()
	a := resolve(t, "127.0.0.1:0", "tcp")
	if a.key("x", 0) == a.key("y", 0) || a.key("x", 0) != resolve(t, "127.0.0.1:0", "tcp").key("x", 0) {
		t.Errorf("%s, %s", a.key("x", 0), a.key("y", 0))
	}
}

func TestResolveRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ address, transport string }{
		{"", "tcp"},
		{"8080", "tcp"},
		{"127.0.0.1", "tcp"},
		{"127.0.0.1:70000", "tcp"},
		{"127.0.0.1:-1", "tcp"},
		{"::1:80", "tcp"},
		{"127.0.0.1:no-such-service", "tcp"},
		{"unix:", "tcp"},
		{"unix:/a", "udp"},
		{"/a", "udp"},
	} {
		if a, err := Resolve(tt.address, tt.transport, "/"); err == nil {
			t.Errorf("%q is %v", tt.address, a)
		} else if !strings.Contains(err.Error(), tt.address) {
			t.Errorf("%q: %v", tt.address, err)
		}
	}
}

func TestAddrInWords(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"127.0.0.1:80": "127.0.0.1:80", "[::1]:80": "[::1]:80", "unix:s": "unix:" + filepath.Join("/work", "s"),
	} {
		if got := resolve(t, address, "tcp").String(); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
