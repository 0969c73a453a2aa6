package main

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"baton/cmd/baton/internal/config"
	"baton/master"
)

// The defaults that depend on where baton was started.
const (
	defaultAddress = "127.0.0.1:8080"
	defaultControl = "baton.sock"
)

// overriddenBy returns the flag that was given for a key, or "".
func (c *call) overriddenBy(key string) string {
	for _, o := range slices.Backward(c.overrides) {
		if o.key == key {
			return o.Name
		}
	}
	return ""
}

// overlay lets the flags win over the file, and returns what of it they hide. x may be nil.
func (c *call) overlay(f *config.File, x *config.Index) (hidden []string, err error) {
	for _, o := range c.overrides {
		before := *f
		if err := o.file(f, o.value); err != nil {
			return nil, &usageError{What: fmt.Sprintf("--%s: %v", o.Name, err), Hint: "change the config file instead"}
		}
		if text, ok := x.Quote(o.key); ok && !reflect.DeepEqual(before, *f) {
			hidden = append(hidden, fmt.Sprintf("--%s=%s wins over %s", o.Name, o.value, text))
		}
	}
	return hidden, nil
}

// runProgram makes the program of the command line the answer to all requests.
func (c *call) runProgram(f *config.File, dir string) error {
	if len(f.Routes) > 0 || len(f.Programs) > 0 {
		return &usageError{
			What: "the config file has routes or programs of its own", Hint: "write the program into it, as a [[program]]",
		}
	}
	p := config.Program{Name: filepath.Base(c.program[0]), Command: c.program, Dir: dir}
	if what := p.CheckCommand(f.RunAs()); what != "" {
		return &usageError{What: what}
	}
	f.Programs, f.Routes = []config.Program{p}, []config.Route{{Path: "/", Program: p.Name}}
	return nil
}

// setAddress changes the address of the only listener, and adds it if there is none. It changes nothing in place: the
// file is compared with what it was.
func setAddress(f *config.File, change func(host, port string) string) error {
	if len(f.Listen) > 1 {
		return fmt.Errorf("the config file has %d [[listen]] tables", len(f.Listen))
	}
	l := config.Listen{Name: defaultAddress, Address: defaultAddress}
	if len(f.Listen) == 1 {
		l = f.Listen[0]
	}
	if strings.HasPrefix(l.Address, "unix:") {
		return fmt.Errorf("the config file listens on %s", l.Address)
	}
	host, port, err := net.SplitHostPort(l.Address)
	if err != nil {
		return err
	}
	address := change(host, port)
	if l.Name == l.Address {
		l.Name = address
	}
	l.Address = address
	f.Listen = []config.Listen{l}
	return nil
}

func setHost(f *config.File, s string) error {
	host := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	if err := config.CheckHost(host); err != nil {
		return err
	}
	return setAddress(f, func(_, port string) string { return net.JoinHostPort(host, port) })
}

func setPort(f *config.File, s string) error {
	n, err := config.CheckPort(s)
	if err != nil {
		return err
	}
	return setAddress(f, func(host, _ string) string { return net.JoinHostPort(host, strconv.Itoa(n)) })
}

func setWorkers(f *config.File, s string) error {
	f.Workers = s
	if s == "auto" {
		return nil
	}
	n, err := parseNumber(s, master.MaxWorkers, "a number")
	if err != nil {
		return errors.New(err.Error() + ", or auto")
	}
	f.Workers = n
	return nil
}

func setTimeout(f *config.File, s string) error {
	n, err := parseNumber(s, config.LimitOf("http.receive_timeout").Max/int64(time.Millisecond),
		"a number of milliseconds")
	f.HTTP.ReceiveTimeout = config.Duration(time.Duration(n) * time.Millisecond)
	return err
}

func setMaxHeader(f *config.File, s string) error {
	n, err := parseNumber(s, config.LimitOf("http.max_header_size").Max, "a number of bytes")
	f.HTTP.MaxHeaderSize = int(n)
	return err
}

func parseNumber(s string, most int64, want string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("%q: want %s from 1 to %d", s, want, most)
	}
	return n, nil
}
