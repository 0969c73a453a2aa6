package keeper

import (
	"context"
	"net/http"
	"slices"
	"time"

	"baton/master/internal/control"
	"baton/worker/wire"
)

// maxResizes bounds what may wait for a master. Those who ask on the control socket are fewer.
const maxResizes = 1024

// resizing is a request for another number of workers. It is held back while an attempt runs, for what the master of that
// moment is told would be lost with it, and while a master is not alone yet. A master that dies before it has answered
// leaves it to the next one.
type resizing struct {
	wire.Resize
	sent   time.Time // zero: it is held back
	done   bool
	failed string
}

// askResize answers when the master has obeyed.
func (k *keeper) askResize(m wire.Resize, asked time.Time) look {
	if len(k.resizes) >= maxResizes {
		return refused(&control.Error{Code: http.StatusServiceUnavailable, Text: "resize: too many requests wait for the master"})
	}
	r := k.resize(m)
	return func(now time.Time) (a answer, done bool, until time.Time) {
		var err error
		switch {
		case r.failed != "":
			err = &control.Error{Code: http.StatusConflict, Text: "resize: " + r.failed}
		case r.done:
			return answer{value: map[string]int{"workers": r.Workers}}, true, until
		case k.stopping:
			err = errStopping()
		case r.sent.IsZero():
			until, err = k.patience(asked, now)
		default:
			until, err = k.unansweredAfter(r.sent, now)
		}
		if err != nil {
			k.withdraw(r)
		}
		return answer{err: err}, err != nil, until
	}
}

// unansweredAfter is until when a master may answer what it was told, or that it has not.
func (k *keeper) unansweredAfter(told, now time.Time) (until time.Time, err error) {
	if until = told.Add(k.masterLimit()); now.Before(until) {
		return until, nil
	}
	return time.Time{}, k.unanswered()
}

// resizeBy is TTIN and TTOU: nobody waits for the answer, and nothing but a master's silence makes it void.
func (k *keeper) resizeBy(delta int) {
	if len(k.resizes) >= maxResizes || k.stopping {
		k.log.Warn("keeper: resize was dropped", "by", delta, "waiting", len(k.resizes))
		return
	}
	r := k.resize(wire.Resize{Delta: delta})
	watch := func(now time.Time) (a answer, done bool, until time.Time) {
		if r.done || k.stopping || r.sent.IsZero() {
			return answer{}, r.done || k.stopping, until
		}
		until, err := k.unansweredAfter(r.sent, now)
		if err != nil {
			k.log.Error("keeper: resize", "error", err)
			k.withdraw(r)
		}
		return answer{}, err != nil, until
	}
	k.questions = append(k.questions, question{ctx: context.Background(), look: watch, reply: make(chan answer, 1)})
}

func (k *keeper) resize(m wire.Resize) *resizing {
	k.resizeSeq++
	m.Seq = k.resizeSeq
	r := &resizing{Resize: m}
	k.resizes = append(k.resizes, r)
	if k.count == k.served { // else a reload comes first, or one resize after the other could keep it from beginning
		k.tellResizes()
	}
	return r
}

// isResizing reports whether the master has been told something that it has not answered.
func (k *keeper) isResizing() bool {
	return slices.ContainsFunc(k.resizes, func(r *resizing) bool { return !r.sent.IsZero() })
}

// tellResizes tells the master what was held back, if it may be told.
func (k *keeper) tellResizes() {
	if k.attempt != nil || k.current == nil || k.current.phase != phaseCurrent {
		return
	}
	for _, r := range k.resizes {
		if r.sent.IsZero() {
			r.sent = time.Now()
			k.post(r.Resize)
		}
	}
}

// untellResizes is called when the master is dead: the next one is told.
func (k *keeper) untellResizes() {
	for _, r := range k.resizes {
		r.sent = time.Time{}
	}
}

// resized: the master has obeyed all requests up to seq. failed is why it could not obey that one.
func (k *keeper) resized(seq int64, failed string) {
	for len(k.resizes) > 0 && k.resizes[0].Seq <= seq {
		r := k.resizes[0]
		k.resizes = k.resizes[1:]
		r.done = true
		if r.Seq == seq {
			r.failed = failed
		}
	}
}

func (k *keeper) withdraw(r *resizing) {
	k.resizes = slices.DeleteFunc(k.resizes, func(o *resizing) bool { return o == r })
}
