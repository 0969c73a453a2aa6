package main

import (
	"sync"
	"time"

	"baton/master/mastertest"
	"baton/scripts/internal/harness"
	"baton/scripts/load"
)

// What killed processes are an excuse for.
const (
	excuseWorker     = "held by a worker that was killed"
	excuseInstance   = "held by an instance that was killed"
	excuseSupervisor = "while there was no baton, its supervisor killed"
)

// heldFor is how long a client may take to notice that its connection is dead; its port is another's after that.
const heldFor = harness.Timeout

// held knows which connections were bound to fail.
type held struct {
	*sync.Mutex
	served map[mastertest.Ends]time.Time // by killed workers, and when that was
	dead   *[]span                       // of the supervisor

	instances *[]span // that were killed, each until nothing of it was open
}

// span is a time in which nobody served; to is zero while it lasts.
type span struct{ from, to time.Time }

func newHeld() held {
	return held{Mutex: &sync.Mutex{}, served: map[mastertest.Ends]time.Time{}, dead: &[]span{}, instances: &[]span{}}
}

// add notes what a worker serves that is about to be killed.
func (h held) add(served map[mastertest.Ends]bool) {
	h.Lock()
	defer h.Unlock()
	now := time.Now()
	for e, at := range h.served {
		if now.Sub(at) > heldFor {
			delete(h.served, e)
		}
	}
	for e := range served {
		h.served[e] = now
	}
}

// dying and died are around the killing of an instance: its clients may fail before it is over.
func (h held) dying() {
	h.Lock()
	defer h.Unlock()
	*h.instances = append(*h.instances, span{from: time.Now()})
}

func (h held) died() {
	h.Lock()
	defer h.Unlock()
	(*h.instances)[len(*h.instances)-1].to = time.Now()
}

// down and up are around the killing of a supervisor.
func (h held) down() {
	h.Lock()
	defer h.Unlock()
	*h.dead = append(*h.dead, span{from: time.Now()})
}

func (h held) up() {
	h.Lock()
	defer h.Unlock()
	(*h.dead)[len(*h.dead)-1].to = time.Now()
}

// isDown reports whether there is no baton at the moment.
func (h held) isDown() bool {
	h.Lock()
	defer h.Unlock()
	n := len(*h.dead)
	return n > 0 && (*h.dead)[n-1].to.IsZero()
}

// excuse is for [load.Config]. A dead connection excuses one failure.
func (h held) excuse(f load.Failure) string {
	h.Lock()
	defer h.Unlock()
	ends := mastertest.Ends{Client: f.Local, Server: f.Remote}
	if at, ok := h.served[ends]; ok && f.Time.Sub(at) <= heldFor {
		delete(h.served, ends)
		return excuseWorker
	}
	for _, d := range *h.dead {
		// A connection of before has ended with the baton, and its client may ask on it much later.
		if f.Time.After(d.from) && (d.to.IsZero() || f.Made.Before(d.to.Add(time.Second))) {
			return excuseSupervisor
		}
	}
	return ""
}

// excuseProgram is for the clients of a program. Which of its instances has a request they cannot know: one that was
// begun before a death has it for an excuse if it fails then.
func (h held) excuseProgram(f load.Failure) string {
	if why := h.excuse(f); why != "" {
		return why
	}
	h.Lock()
	defer h.Unlock()
	for _, s := range *h.instances {
		if f.Time.After(s.from) && (s.to.IsZero() || f.Began.Before(s.to)) {
			return excuseInstance
		}
	}
	return ""
}
