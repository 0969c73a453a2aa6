package main

import (
	"baton/scripts/load"
)

// facts are what is known of a request that failed and of its connection.
type facts struct {
	kind     load.Kind
	datagram bool
	held     bool // a process that was killed, by us or because it hung, had the connection
	down     bool // there was no baton at some time of the connection's
	begun    bool // the request was begun before that, so that it had to be answered
	left     bool // at some time of the connection's, nobody promised to serve the target
	late     bool // it was made when nobody did
	shed     bool // its worker may have had max_connections, and closed idle ones for those who wait
	lingers  bool // it does not move: TLS, a WebSocket, handover = false, a program that does not hand over
	replaced bool // its worker may have been told to drain
	drained  bool // and that long ago that it may be cut
	stirred  bool // a worker was killed or stopped at the time of the request
}

// excuse says why a failure is none of baton's, or "". It is the tables "What a reload does to a connection" and "What
// happens when something dies" of master/README.md, for what may be closed; silence has an excuse only where nobody is
// expected to answer.
func excuse(f facts) string {
	silent := f.kind == load.Hang
	switch {
	case f.late:
		return "its address was not served"
	case f.datagram && (f.stirred || f.down || f.left):
		return "a datagram of a worker that was killed or stopped"
	case silent:
		return ""
	case f.held:
		return "held by a worker that was killed"
	case f.down && !f.begun:
		return "there was no baton"
	case f.shed && cut(f.kind):
		return "closed for others, at max_connections"
	case f.kind == load.Goodbye && (f.replaced || f.down):
		return "a WebSocket whose worker goes"
	case cut(f.kind) && f.drained && (f.lingers || f.left):
		return "cut by drain_timeout"
	default:
		return ""
	}
}

// cut reports whether a failure is what a client sees whose connection is ended.
func cut(k load.Kind) bool {
	switch k {
	case load.EOF, load.ResetBefore, load.ResetAfter, load.Short, load.Goodbye, load.Other:
		return true
	default:
		return false
	}
}
