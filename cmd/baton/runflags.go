package main

import (
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"baton/cmd/baton/internal/config"
	"baton/master"
)

// runFlags are the flags of run and check: where the file is, and what wins over it.
type runFlags struct {
	*flagSet
	config    string
	overrides []override // in the order of the command line
}

// override is one flag that was given.
type override struct {
	flag, typed string
	path        string // the key of the file that it hides
	apply       func(*config.File) error
}

func newRunFlags(command string) *runFlags {
	r := &runFlags{flagSet: newFlagSet(command)}
	r.refusable("config", "with no --config at all, a built-in page is served", func(s string) error {
		if s == "" {
			return errors.New("want the path of a file")
		}
		r.config = s
		return nil
	})
	r.add("host", "as 127.0.0.1, ::1, or \"\" for every address of the machine", "listen.0.address", setHost)
	r.add("port", "", "listen.0.address", setPort)
	r.add("workers", "auto takes the CPUs that baton may use", "workers", setWorkers)
	r.add("worker", "auto takes the CPUs that baton may use", "workers", setWorkers)
	r.add("timeout-ms", "as 2000", "http.receive_timeout", setTimeout)
	r.add("max-header-size", "as 8192", "http.max_header_size", setMaxHeader)
	r.add("control", "", "control", setText(func(f *config.File) *string { return &f.Control }))
	r.add("pid-file", "", "pid_file", setText(func(f *config.File) *string { return &f.PIDFile }))
	r.BoolFunc("watch", "", func(s string) error { return r.note("watch", "", r.override("watch", s, "watch", setWatch)) })
	return r
}

// The defaults of what is a question of where baton was started.
const (
	defaultHost    = "127.0.0.1"
	defaultPort    = "8080"
	defaultControl = "baton.sock"
)

// setter reads a flag's value and returns what it does to the file.
type setter func(string) (func(*config.File) error, error)

func (r *runFlags) add(name, hint, path string, set setter) {
	r.refusable(name, hint, func(s string) error { return r.override(name, s, path, set) })
}

func (r *runFlags) override(name, typed, path string, set setter) error {
	apply, err := set(typed)
	if err != nil {
		return err
	}
	r.overrides = append(r.overrides, override{name, typed, path, apply})
	return nil
}

// over is the flag that was given for a key, or "".
func (r *runFlags) over(path string) string {
	flag := ""
	for _, o := range r.overrides {
		if o.path == path {
			flag = o.flag
		}
	}
	return flag
}

// sets reports whether a flag says what the file's key of that path is.
func (r *runFlags) sets(path string) bool {
	return r.over(path) != ""
}

// overlay lets the flags win over the file, and tells what of it they hide. x may be nil.
func (r *runFlags) overlay(f *config.File, x *config.Index) (hidden []string, err error) {
	for _, o := range r.overrides {
		before := *f
		if err := o.apply(f); err != nil {
			return nil, &mistake{What: fmt.Sprintf("--%s: %v", o.flag, err), Hint: "change the config file instead"}
		}
		if x == nil || reflect.DeepEqual(before, *f) {
			continue
		}
		if said, ok := x.Quote(o.path); ok {
			hidden = append(hidden, fmt.Sprintf("--%s=%s wins over %s", o.flag, o.typed, said))
		}
	}
	return hidden, nil
}

// at changes the address of the only listener, which is made if there is none. Nothing is changed in place: the file
// is compared with what it was.
func at(f *config.File, change func(host, port string) string) error {
	if len(f.Listen) > 1 {
		return fmt.Errorf("the config file has %d [[listen]] tables", len(f.Listen))
	}
	if len(f.Listen) == 0 {
		f.Listen = []config.Listen{defaultListen()}
	}
	f.Listen = slices.Clone(f.Listen)
	l := &f.Listen[0]
	if strings.HasPrefix(l.Address, "unix:") {
		return fmt.Errorf("the config file listens on %s", l.Address)
	}
	host, port, err := net.SplitHostPort(l.Address)
	if err != nil {
		return err
	}
	named := l.Name != l.Address
	l.Address = change(host, port)
	if !named {
		l.Name = l.Address
	}
	return nil
}

func defaultListen() config.Listen {
	address := net.JoinHostPort(defaultHost, defaultPort)
	return config.Listen{Name: address, Address: address}
}

func setHost(s string) (func(*config.File) error, error) {
	host := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	if err := config.CheckHost(host); err != nil {
		return nil, err
	}
	return func(f *config.File) error {
		return at(f, func(_, port string) string { return net.JoinHostPort(host, port) })
	}, nil
}

func setPort(s string) (func(*config.File) error, error) {
	n, err := config.CheckPort(s)
	if err != nil {
		return nil, err
	}
	return func(f *config.File) error {
		return at(f, func(host, _ string) string { return net.JoinHostPort(host, strconv.Itoa(n)) })
	}, nil
}

func setWorkers(s string) (func(*config.File) error, error) {
	if s == "auto" {
		return func(f *config.File) error { f.Workers = s; return nil }, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 || n > master.MaxWorkers {
		return nil, fmt.Errorf("%q: want a number from 1 to %d, or auto", s, master.MaxWorkers)
	}
	return func(f *config.File) error { f.Workers = n; return nil }, nil
}

func setTimeout(s string) (func(*config.File) error, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	most := config.LimitOf("ReceiveTimeout").Max / int64(time.Millisecond)
	if err != nil || n < 1 || n > most {
		return nil, fmt.Errorf("%q: want a number of milliseconds from 1 to %d", s, most)
	}
	d := config.Duration(time.Duration(n) * time.Millisecond)
	return func(f *config.File) error { f.HTTP.ReceiveTimeout = d; return nil }, nil
}

func setMaxHeader(s string) (func(*config.File) error, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	most := config.LimitOf("MaxHeaderSize").Max
	if err != nil || n < 1 || n > most {
		return nil, fmt.Errorf("%q: want a number of bytes from 1 to %d", s, most)
	}
	return func(f *config.File) error { f.HTTP.MaxHeaderSize = int(n); return nil }, nil
}

func setWatch(s string) (func(*config.File) error, error) {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return nil, fmt.Errorf("%q: want true or false", s)
	}
	return func(f *config.File) error { f.Watch = b; return nil }, nil
}

func setText(field func(*config.File) *string) setter {
	return func(s string) (func(*config.File) error, error) {
		return func(f *config.File) error { *field(f) = s; return nil }, nil
	}
}
