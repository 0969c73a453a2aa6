package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// deed is what a step does.
type deed string

// All deeds.
const (
	edit    deed = "edit"    // change the file, and have it applied
	reload  deed = "reload"  // without a change
	resize  deed = "resize"  // baton resize N
	more    deed = "ttin"    // one worker more
	fewer   deed = "ttou"    // one worker less
	kill    deed = "kill"    // -9
	pause   deed = "pause"   // SIGSTOP, and SIGCONT after a time
	program deed = "program" // another binary, and a reload
	restart deed = "restart" // stop everything, and start again
	remove  deed = "remove"  // a file that baton has made, and a reload
	occupy  deed = "occupy"  // a foreign process takes a port
	release deed = "release" // and gives it back
	spoil   deed = "spoil"   // the file is broken or gone for a time, and reloads fail
	rotate  deed = "rotate"  // the log gets another name, and USR1
	rest    deed = "rest"    // nothing, for a time
)

// step is one step of a walk. What it means does not depend on the steps before it.
type step struct {
	Do  deed           `json:"do"`
	How string         `json:"how,omitempty"` // edit, reload: command, hup, watch
	Set map[string]int `json:"set,omitempty"` // edit: keys
	Put map[int]*place `json:"put,omitempty"` // edit: listeners; null removes one
	Who string         `json:"who,omitempty"` // kill, pause: worker, master, supervisor
	Nth int            `json:"nth,omitempty"` // of several
	N   int            `json:"n,omitempty"`   // resize; pause, rest: milliseconds
	// program: its name; remove: the file; spoil: how; occupy: the transport
	What string `json:"what,omitempty"`
	Save string `json:"save,omitempty"` // edit: how the file is written: slow, link, or by rename
	Host string `json:"host,omitempty"` // occupy
	Port int    `json:"port,omitempty"` // occupy
	With bool   `json:"with,omitempty"` // the next step comes at once
}

// place is a listener, or the lack of one.
type place struct {
	*listener
}

// MarshalJSON writes the listener, or null.
func (p *place) MarshalJSON() ([]byte, error) { return json.Marshal(p.listener) }

// UnmarshalJSON reads a listener.
func (p *place) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &p.listener) }

// state is what steps change: what the file says, and which program is installed.
type state struct {
	file    *shape
	program string
}

// newState is where each walk begins.
func newState() state {
	s := &shape{Values: map[string]int{}}
	s.Listen[0] = &listener{Host: "127.0.0.1", Transport: "tcp", Process: "http"}
	return state{file: s, program: "v1"}
}

// after is the state after a step.
func (s state) after(p step) state {
	switch p.Do {
	case edit:
		last := s.file
		s.file = s.file.clone()
		s.file.Edit++
		for k, v := range p.Set {
			s.file.Values[k] = v
		}
		for i, l := range p.Put {
			s.file.Listen[i] = nil
			if l != nil {
				s.file.Listen[i] = l.listener
			}
		}
		if s.file.Listen == [places]*listener{} {
			s.file.Listen = last.Listen // a file without one means the built-in address, which other walks have as well
		}
	case program:
		s.program = p.What
	default:
	}
	return s
}

// served is what the program makes of the file: not every one serves each listener.
func (s state) served() *shape {
	served := s.file.clone()
	for i, l := range served.Listen {
		if l != nil && !serves(s.program, l) {
			served.Listen[i] = nil
		}
	}
	return served
}

// given is what the program finds in its file.
func (s state) given() *shape {
	if s.file.get("whole") != 0 {
		return s.file
	}
	return s.served()
}

// String is the step as it is printed, and read again by -replay.
func (p step) String() string {
	b, err := json.Marshal(p)
	if err != nil {
		panic(err) // it is only numbers and texts
	}
	return string(b)
}

// format prints steps, one a line.
func format(steps []step) string {
	var b strings.Builder
	for _, p := range steps {
		fmt.Fprintln(&b, p)
	}
	return b.String()
}

// parse reads what format has printed; empty lines and those that begin with # are left out.
func parse(r io.Reader) (steps []step, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		var p step
		d := json.NewDecoder(strings.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&p); err != nil {
			return nil, fmt.Errorf("step %d: %w", len(steps)+1, err)
		}
		steps = append(steps, p)
	}
	return steps, lines.Err()
}

// groups are the steps that come at once, in their order.
func groups(steps []step) (all [][]step) {
	begin := 0
	for i, p := range steps {
		if !p.With || i == len(steps)-1 {
			all = append(all, steps[begin:i+1])
			begin = i + 1
		}
	}
	return all
}
