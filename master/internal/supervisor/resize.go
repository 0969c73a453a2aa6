package supervisor

import (
	"context"
	"net/http"
	"slices"
	"time"

	"baton/master/internal/control"
	"baton/master/internal/message"
)

// maxResizes bounds what may wait for a master. Those who ask on the control socket are fewer.
const maxResizes = 1024

// resizing is a request for another number of workers. It is held back while an attempt runs, for what the master of that
// moment is told would be lost with it, and while a master is not alone yet. A master that dies before it has answered
// leaves it to the next one.
type resizing struct {
	message.Resize
	sent   time.Time // zero: it is held back
	done   bool
	failed string
}

// askResize answers when the master has obeyed.
func (sv *supervisor) askResize(m message.Resize, asked time.Time) look {
	if len(sv.resizes) >= maxResizes {
		return refused(&control.Error{Code: http.StatusServiceUnavailable, Text: "resize: too many requests wait for the master"})
	}
	r := sv.resize(m)
	return func(now time.Time) (a answer, done bool, until time.Time) {
		var err error
		switch {
		case r.failed != "":
			err = &control.Error{Code: http.StatusConflict, Text: "resize: " + r.failed}
		case r.done:
			return answer{value: map[string]int{"workers": r.Workers}}, true, until
		case sv.stopping:
			err = errStopping()
		case r.sent.IsZero():
			until, err = sv.patience(asked, now)
		default:
			until, err = sv.unansweredAfter(r.sent, now)
		}
		if err != nil {
			sv.withdraw(r)
		}
		return answer{err: err}, err != nil, until
	}
}

// unansweredAfter is until when a master may answer what it was told, or that it has not.
func (sv *supervisor) unansweredAfter(told, now time.Time) (until time.Time, err error) {
	if until = told.Add(sv.masterLimit()); now.Before(until) {
		return until, nil
	}
	return time.Time{}, sv.unanswered()
}

// resizeBy is TTIN and TTOU: nobody waits for the answer, and nothing but a master's silence makes it void.
func (sv *supervisor) resizeBy(delta int) {
	if len(sv.resizes) >= maxResizes || sv.stopping {
		sv.log.Warn("supervisor: resize was dropped", "by", delta, "waiting", len(sv.resizes))
		return
	}
	r := sv.resize(message.Resize{Delta: delta})
	watch := func(now time.Time) (a answer, done bool, until time.Time) {
		if r.done || sv.stopping || r.sent.IsZero() {
			return answer{}, r.done || sv.stopping, until
		}
		until, err := sv.unansweredAfter(r.sent, now)
		if err != nil {
			sv.log.Error("supervisor: resize", "error", err)
			sv.withdraw(r)
		}
		return answer{}, err != nil, until
	}
	sv.questions = append(sv.questions, question{ctx: context.Background(), look: watch, reply: make(chan answer, 1)})
}

func (sv *supervisor) resize(m message.Resize) *resizing {
	sv.resizeSeq++
	m.Seq = sv.resizeSeq
	r := &resizing{Resize: m}
	sv.resizes = append(sv.resizes, r)
	if sv.count == sv.served { // else a reload comes first, or one resize after the other could keep it from beginning
		sv.tellResizes()
	}
	return r
}

// isResizing reports whether the master has been told something that it has not answered.
func (sv *supervisor) isResizing() bool {
	return slices.ContainsFunc(sv.resizes, func(r *resizing) bool { return !r.sent.IsZero() })
}

// tellResizes tells the master what was held back, if it may be told.
func (sv *supervisor) tellResizes() {
	if sv.attempt != nil || sv.current == nil || sv.current.phase != phaseCurrent {
		return
	}
	for _, r := range sv.resizes {
		if r.sent.IsZero() {
			r.sent = time.Now()
			sv.post(r.Resize)
		}
	}
}

// untellResizes is called when the master is dead: the next one is told.
func (sv *supervisor) untellResizes() {
	for _, r := range sv.resizes {
		r.sent = time.Time{}
	}
}

// resized: the master has obeyed all requests up to seq. failed is why it could not obey that one.
func (sv *supervisor) resized(seq int64, failed string) {
	for len(sv.resizes) > 0 && sv.resizes[0].Seq <= seq {
		r := sv.resizes[0]
		sv.resizes = sv.resizes[1:]
		r.done = true
		if r.Seq == seq {
			r.failed = failed
		}
	}
}

func (sv *supervisor) withdraw(r *resizing) {
	sv.resizes = slices.DeleteFunc(sv.resizes, func(o *resizing) bool { return o == r })
}
