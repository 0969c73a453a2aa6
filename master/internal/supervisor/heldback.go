package supervisor

import (
	"context"
	"net/http"
	"slices"
	"time"

	"baton/master/internal/message"
)

// maxResizes bounds what may wait for a master. The control socket lets in fewer clients.
const maxResizes = 1024

// heldBack is what was asked of a master that might lose it: while an attempt runs, for what the master of that moment
// is told would be lost with it, while a takeover is not complete, and while there is no master. It is told to the
// next one, and so is what a master did not live to answer.
type heldBack struct {
	resizes []*resizing // that no master has answered
	seq     int64       // of the last resize
	reopen  bool        // the next master opens its log anew
}

// resizing is a request for another number of workers.
type resizing struct {
	message.Resize
	sent   time.Time // zero: it is held back
	done   bool
	failed string
}

// releaseHeld tells the master what was held back, if it may be told.
func (m *masters) releaseHeld() {
	if m.attempt != nil || m.current == nil || m.current.phase != phaseCurrent {
		return
	}
	for _, r := range m.held.resizes {
		if r.sent.IsZero() {
			r.sent = time.Now()
			m.post(r.Resize)
		}
	}
	if m.held.reopen {
		m.held.reopen = false
		m.tellReopen()
	}
}

// masterLost makes the next master hear what this one has not answered.
func (h *heldBack) masterLost(c *masterConn) {
	for _, r := range h.resizes {
		r.sent = time.Time{}
	}
	h.reopen = h.reopen || c.reopens > 0
}

// attemptFailed drops a reopen if a master stays: it has reopened its log already.
func (h *heldBack) attemptFailed(current *masterConn) { h.reopen = h.reopen && current == nil }

// awaitsAnswer reports whether the master has been told to resize and has not answered.
func (h *heldBack) awaitsAnswer() bool {
	return slices.ContainsFunc(h.resizes, func(r *resizing) bool { return !r.sent.IsZero() })
}

// isEmpty reports whether no master has anything left to do.
func (h *heldBack) isEmpty() bool { return len(h.resizes) == 0 && !h.reopen }

// resized notes that the master has obeyed all requests up to seq. failed is why it could not obey that one.
func (h *heldBack) resized(seq int64, failed string) {
	for len(h.resizes) > 0 && h.resizes[0].Seq <= seq {
		r := h.resizes[0]
		h.resizes = h.resizes[1:]
		r.done = true
		if r.Seq == seq {
			r.failed = failed
		}
	}
}

func (h *heldBack) withdraw(r *resizing) {
	h.resizes = slices.DeleteFunc(h.resizes, func(o *resizing) bool { return o == r })
}

// reopenLogs tells the master, and in the middle of a reload the one that comes after it as well: a successor may have
// opened the file before somebody renamed it.
func (m *masters) reopenLogs() {
	m.tellReopen()
	m.held.reopen = m.attempt != nil || m.current == nil || m.current.phase != phaseCurrent
}

func (m *masters) tellReopen() {
	if m.current != nil {
		m.current.reopens++
		m.post(message.Reopen{})
	}
}

func (m *masters) resize(msg message.Resize) *resizing {
	m.held.seq++
	msg.Seq = m.held.seq
	r := &resizing{Resize: msg}
	m.held.resizes = append(m.held.resizes, r)
	if m.requests == m.served { // else a reload comes first, or one resize after the other could keep it from beginning
		m.releaseHeld()
	}
	return r
}

// resizeBy is TTIN and TTOU: nobody waits for the answer, and nothing but a master's silence makes it void.
func (sv *supervisor) resizeBy(delta int) {
	if len(sv.held.resizes) >= maxResizes || sv.stopping.begun() {
		sv.log.Warn("supervisor: resize was dropped", "by", delta, "waiting", len(sv.held.resizes))
		return
	}
	answered := sv.front.resized(sv.resize(message.Resize{Delta: delta}), time.Time{})
	watch := func(now time.Time) (a *answer, until time.Time) {
		if a, until = answered(now); a != nil && a.err != nil && !sv.stopping.begun() {
			sv.log.Error("supervisor: resize", "error", a.err)
		}
		return a, until
	}
	sv.front.add(question{ctx: context.Background(), poll: watch, reply: make(chan answer, 1)})
}

// resize answers when the master has obeyed.
func (f *front) resize(workers int, asked time.Time) poll {
	if len(f.sv.held.resizes) >= maxResizes {
		return failed(problem(http.StatusServiceUnavailable, "resize: too many requests wait for the master"))
	}
	return f.resized(f.sv.resize(message.Resize{Workers: workers}), asked)
}

// resized answers how r has ended. It may be held back for ever if asked is zero.
func (f *front) resized(r *resizing, asked time.Time) poll {
	return func(now time.Time) (a *answer, until time.Time) {
		var err error
		switch {
		case r.failed != "":
			err = problem(http.StatusConflict, "resize: %s", r.failed)
		case r.done:
			return &answer{value: map[string]int{"workers": r.Workers}}, until
		case f.sv.stopping.begun():
			err = errStopping()
		case !r.sent.IsZero():
			until, err = f.unansweredAfter(r.sent, now)
		case !asked.IsZero():
			until, err = f.patience(asked, now)
		}
		if err == nil {
			return nil, until
		}
		f.sv.held.withdraw(r)
		return &answer{err: err}, until
	}
}
