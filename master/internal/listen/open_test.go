package listen

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSuccession is the table of what becomes of a predecessor's sockets: each is a listener's again, extra, or
// dropped, and what is new is made. What stays is in the registry, and what listens answers.
func TestSuccession(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		before, after string // listeners: a, b; *a is wider than a; r- has a socket for each slot, u- is UDP
		slots         string
		same          int // sockets that are the predecessor's
	}{
		{"nothing changes", "a", "a", "-1", 1},
		{"one more", "a", "a b", "-1 -1", 1},
		{"another one", "a", "b", "-1", 0},
		{"a wider one", "a", "*a", "(-1) -1", 1},
		{"a narrower one", "*a", "a", "-1", 0},
		{"a wider one as well", "a", "a *a", "-1 -1", 1},
		{"a socket for each slot", "a", "r-a", "(-1) 0 1", 1},
		{"one socket for all slots", "r-a", "a", "(0) (1) -1", 2},
		{"both in one reload", "r-a b", "a r-b", "(-1) (0) (1) -1 0 1", 3},
		{"UDP", "u-a", "u-a", "-1", 1},
		{"UDP goes", "u-a", "a", "-1", 0},
		{"a Unix socket", "unix:s", "unix:s b", "-1 -1", 1},
		{"a Unix socket goes", "unix:s", "b", "-1", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, b := freeAddress(), freeAddress()
			_, port, _ := net.SplitHostPort(a)
			addresses := map[string]string{"a": a, "b": b, "*a": "0.0.0.0:" + port}
			listeners := func(words string) (all []Listener) {
				for _, w := range strings.Fields(words) {
					l := Listener{}
					w, l.ReusePort = strings.CutPrefix(w, "r-")
					if w, ok := strings.CutPrefix(w, "u-"); ok {
						l.Transport, l.Address = "udp", w
					} else {
						l.Address = w
					}
					if full, ok := addresses[l.Address]; ok {
						l.Address = full
					}
					all = append(all, l)
				}
				return all
			}
			first := opened(t, 2, listeners(tt.before)...)
			o, err := first.trySuccessor(Config{Listeners: listeners(tt.after), Slots: 2, Reload: true})
			if errors.Is(err, unix.EADDRINUSE) {
				t.Skip("the port is somebody's on another address: ", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			o.start(2)
			if got := o.slots(); got != tt.slots || len(o.registry) != len(o.sockets) || len(o.warnings) != 0 {
				t.Errorf("%s, want %s; %d in the registry, %q", got, tt.slots, len(o.registry), o.warnings)
			}
			same := 0
			for _, k := range o.sockets {
				for _, p := range first.sockets {
					if ino(t, k.fd) == ino(t, p.fd) {
						same++
					}
				}
			}
			if same != tt.same {
				t.Errorf("%d sockets are the predecessor's, want %d", same, tt.same)
			}
		})
	}
}

func ino(t *testing.T, fd int) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// TestUnixSocketIsMadeAnew: where somebody has removed its path; a restarted master changes nothing.
func TestUnixSocketIsMadeAnew(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]bool{"reload": false, "restart": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := []Listener{{Address: "unix:s"}}
			first := opened(t, 1, all...)
			if err := os.Remove(first.Files()[0].Path); err != nil {
				t.Fatal(err)
			}
			o := first.successor(Config{Listeners: all, Slots: 1, Restart: restart})
			if same := ino(t, o.sockets[0].fd) == ino(t, first.sockets[0].fd); same != restart {
				t.Errorf("it is the predecessor's: %v", same)
			}
			at := first.Addresses(0)
			if ended := o.Ended(at, 1); (len(ended) == 0) != restart {
				t.Errorf("to a worker of the first generation these end: %v", ended)
			}
			if files := o.Files(); !restart && (len(files) != 1 || files[0] == first.Files()[0]) {
				t.Errorf("files %v, were %v", files, first.Files())
			}
		})
	}
}

// TestActivated is the table of what becomes of a socket of systemd's, which is called web.socket.
func TestActivated(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		listener Listener // without an address it has that of the socket
		adopted  bool
		mistake  string
	}{
		{"of its address", Listener{}, true, ""},
		{"of its name and address", Listener{Name: "web.socket"}, true, ""},
		{"of another name", Listener{Name: "x"}, true, ""},
		{"another address", Listener{Address: freeAddress()}, false, ""},
		{"of its name on any port", Listener{Name: "web.socket", Address: "127.0.0.1:0"}, true, ""},
		{"on any port", Listener{Address: "127.0.0.1:0"}, false, ""},
		{"of its name at another address", Listener{Name: "web.socket", Address: freeAddress()}, false, "of that name"},
		{"for each slot", Listener{ReusePort: true}, false, "reuse_port takes a socket for each worker"},
		{"another protocol", Listener{Transport: "udp"}, false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			fd := listeningAt(t, resolve(t, "127.0.0.1:0", "tcp"))
			if tt.listener.Address == "" {
				tt.listener.Address = Local(fd)
			}
			o := newOwner(t)
			o.Activate("web.socket", fd)
			err := o.Open(o, Config{Listeners: []Listener{tt.listener}, Slots: 1, Generation: 1})
			if tt.mistake != "" {
				var e *Error
				if !errors.As(err, &e) || e.ExitCode() != 100 || !strings.Contains(err.Error(), tt.mistake) {
					t.Errorf("%v, want the mistake %q", err, tt.mistake)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			k := o.sockets[0]
			if adopted := ino(t, k.fd) == ino(t, fd); adopted != tt.adopted || k.wire().External != tt.adopted {
				t.Errorf("adopted: %v, external: %v", adopted, k.wire().External)
			}
			if unused := o.Unused(); (len(unused) == 0) != tt.adopted {
				t.Errorf("unused: %q", unused)
			}
		})
	}
}

// TestTakenAddress: the error says so, and that systemd has the address if it does; nothing is left in the registry.
func TestTakenAddress(t *testing.T) {
	t.Parallel()
	address := freeAddress()
	foreign(t, address)
	o := newOwner(t)
	err := o.Open(o, Config{Listeners: []Listener{{Address: address}}, Slots: 1, Generation: 1})
	if !errors.Is(err, unix.EADDRINUSE) || len(o.registry) != 0 {
		t.Errorf("%v, %d in the registry", err, len(o.registry))
	}
	_, port, _ := net.SplitHostPort(address)
	o = newOwner(t)
	o.Activate("web.socket", listeningAt(t, resolve(t, "127.0.0.1:"+port, "tcp")))
	err = o.Open(o, Config{Listeners: []Listener{{Address: address}}, Slots: 1, Generation: 1})
	hint := `systemd has passed "web.socket", a TCP socket 127.0.0.1:` + port
	if !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), hint) {
		t.Error(err)
	}
}
