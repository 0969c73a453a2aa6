package supervisor

import (
	"context"
	"net/http"
	"time"

	"baton/master/internal/control"
)

// How long a master may take to say that it has begun what it was asked for. It does so at once unless it is stopped, or
// stuck, or just about to start many workers.
const (
	masterLimit = 5 * time.Second
	workerLimit = 10 * time.Millisecond // more for each worker
)

func (sv *supervisor) masterLimit() time.Duration {
	return masterLimit + time.Duration(sv.size)*workerLimit
}

// question is a request on the control socket that waits for its answer. There are no more than the control socket lets in.
type question struct {
	ctx   context.Context
	look  look
	reply chan<- answer // has room
}

type answer struct {
	value any
	err   error
}

// look says what can be answered by now; done: this is it. Else it is looked again after the next event, and at the time
// until, if that is not zero.
type look func(now time.Time) (a answer, done bool, until time.Time)

func known(v any) look {
	return func(time.Time) (answer, bool, time.Time) { return answer{value: v}, true, time.Time{} }
}

func refused(err error) look {
	return func(time.Time) (answer, bool, time.Time) { return answer{err: err}, true, time.Time{} }
}

// answer answers what can be answered, and forgets those who have gone.
func (sv *supervisor) answer(now time.Time) {
	sv.dl.answer = time.Time{}
	left := sv.questions[:0]
	for _, q := range sv.questions {
		a, done, until := q.look(now)
		switch {
		case done:
			q.reply <- a
		case q.ctx.Err() == nil:
			left = append(left, q)
			sv.dl.answer = earlier(sv.dl.answer, until)
		}
	}
	clear(sv.questions[len(left):])
	sv.questions = left
}

// earlier is the earlier of two moments, of which zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// patience is for those who have asked for what a master has to begin: until when they may wait for it, or, when that time
// has passed, what is wrong. While an attempt runs that has its own limit.
func (sv *supervisor) patience(asked, now time.Time) (until time.Time, err error) {
	if sv.attempt != nil {
		return time.Time{}, nil
	}
	if sv.moved.After(asked) {
		asked = sv.moved
	}
	if until = asked.Add(sv.masterLimit()); now.Before(until) {
		return until, nil
	}
	return time.Time{}, sv.unanswered()
}

// unanswered says why there is no answer of a master.
func (sv *supervisor) unanswered() error {
	if sv.current == nil {
		return &control.Error{Code: http.StatusServiceUnavailable, Text: sv.absence()}
	}
	return &control.Error{Code: http.StatusGatewayTimeout, Text: sv.silence(sv.current)}
}

// silence says that a master does not answer.
func (sv *supervisor) silence(s *session) string {
	p := control.Look(s.pid)
	p.PID = s.pid
	return p.NoAnswer("master")
}
