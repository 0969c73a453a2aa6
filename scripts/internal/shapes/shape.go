package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// places is how many listeners a shape can have. A listener keeps its place, so that a step that is left out changes
// nothing about what the others mean.
const places = 5

// shape is what the config file says.
type shape struct {
	Listen [places]*listener
	Values map[string]int // by the key's name; what is not there has its default
	Edit   int            // the number of the edit, which a route answers
}

// listener is one [[listen]]. Its port is a number in the walk, and its name is its place.
type listener struct {
	Host       string `json:"host"`           // or "unix"
	Port       int    `json:"port"`           // or the number of the path
	Transport  string `json:"transport"`      // tcp, tls, udp
	Process    string `json:"process"`        // http, echo, websocket-echo
	ReusePort  bool   `json:"reuse,omitzero"` // a queue for each worker
	NoHandover bool   `json:"stay,omitzero"`  // idle connections stay where they are
}

// value is a key of the config with the values that it may get; the first one is the default, and is not written.
type value struct {
	key    string
	values []int
	write  func(int) string
}

func plain(n int) string    { return fmt.Sprint(n) }
func seconds(n int) string  { return fmt.Sprintf("%q", time.Duration(n)*time.Second) }
func boolean(n int) string  { return fmt.Sprint(n != 0) }
func megabyte(n int) string { return fmt.Sprint(n << 20) }

// crowded is a max_connections that the clients of a walk reach, while those that cannot be closed do not.
const crowded = 40

// nobody is who workers may be, if the walk is root's.
func nobody(int) string { return `"65534"` + "\ngroup = \"65534\"" }

// values are the keys that a walk changes. The defaults of baton are not always those of a walk, in which nothing
// should last a minute.
func values() []value {
	return []value{
		{"workers", []int{2, 1, 3, 4, 5, 6}, plain},
		{"watch", []int{1, 0}, boolean},
		{"drain_timeout", []int{30, 4, 10}, seconds},
		{"stop_timeout", []int{4, 8}, seconds},
		{"ready_timeout", []int{15, 30}, seconds},
		{"hang_timeout", []int{0, 3, 5}, seconds},
		{"max_generations", []int{100, 8}, plain},
		{"max_requests", []int{0, 300, 2000}, plain},
		{"max_age", []int{0, 3, 10}, seconds},
		{"max_memory", []int{0, 1, 300}, megabyte},
		{"max_connections", []int{0, 200, crowded}, plain},
		{"idle_timeout", []int{75, 30}, seconds},
		{"user", []int{0, 1}, nobody},
		{"whole", []int{0, 1}, nil}, // no key: a program of the library gets listeners too that it does not serve
	}
}

// get is the value of a key.
func (s *shape) get(key string) int {
	if v, ok := s.Values[key]; ok {
		return v
	}
	i := slices.IndexFunc(values(), func(v value) bool { return v.key == key })
	return values()[i].values[0]
}

// seconds is the value of a key that is a time.
func (s *shape) seconds(key string) time.Duration { return time.Duration(s.get(key)) * time.Second }

// clone shares nothing with the shape; listeners are never changed in place.
func (s *shape) clone() *shape {
	c := *s
	c.Values = map[string]int{}
	for k, v := range s.Values {
		c.Values[k] = v
	}
	return &c
}

// toml is the file, with the real addresses of the ports.
func (s *shape) toml(real ports) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# edit %d\ncontrol = \"baton.sock\"\npid_file = \"b.pid\"\nlog_file = \"b.log\"\n", s.Edit)
	idle := ""
	for _, v := range values() {
		if v.write == nil {
			continue
		}
		line := fmt.Sprintf("%s = %s\n", v.key, v.write(s.get(v.key)))
		switch {
		case v.key == "idle_timeout":
			idle = line
		case v.key == "user" && s.get("user") == 0:
		default:
			b.WriteString(line)
		}
	}
	for i, l := range s.Listen {
		if l != nil {
			b.WriteString(l.toml(i, real))
		}
	}
	fmt.Fprintf(&b, "[http]\n%s", idle)
	b.WriteString("[[route]]\npath = \"/\"\nwhoami = true\n[[route]]\npath = \"/echo\"\necho = true\n")
	fmt.Fprintf(&b, "[[route]]\npath = \"/edit\"\nrespond = \"%d\"\n", s.Edit)
	return b.String()
}

func (l *listener) toml(place int, real ports) string {
	text := fmt.Sprintf("[[listen]]\nname = %q\naddress = %q\n", name(place), l.address(real))
	text += fmt.Sprintf("transport = %q\nprocess = %q\n", l.Transport, l.Process)
	if l.ReusePort {
		text += "reuse_port = true\n"
	}
	if l.NoHandover {
		text += "handover = false\n"
	}
	if l.Transport == "tls" {
		text += "tls = { cert = \"cert.pem\", key = \"key.pem\" }\n"
	}
	return text
}

// name is what the listener in a place is called.
func name(place int) string { return fmt.Sprintf("l%d", place) }

// ports are the real numbers of a walk's ports.
type ports []string

// address is what the file says.
func (l *listener) address(real ports) string {
	if l.Host == "unix" {
		return fmt.Sprintf("unix:u%d.sock", l.Port)
	}
	return l.Host + ":" + real[l.Port]
}
