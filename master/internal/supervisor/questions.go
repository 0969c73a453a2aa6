package supervisor

import (
	"context"
	"net/http"
	"time"

	"baton/master/internal/control"
)

// How long a master may take to say that it has begun what it was asked for. It does so at once unless it is stopped,
// or stuck, or just about to start many workers.
const (
	masterLimit = 5 * time.Second
	workerLimit = 10 * time.Millisecond // more for each worker
)

func (sv *supervisor) masterLimit() time.Duration {
	return masterLimit + time.Duration(sv.size)*workerLimit
}

// question is a request on the control socket that waits for its answer. There are no more than the control socket
// lets in.
type question struct {
	ctx   context.Context
	poll  poll
	reply chan<- answer // has room
}

type answer struct {
	value any
	err   error
}

// poll returns the answer. While it is nil, poll is called again after the next event, and at the time until, if that
// is not zero.
type poll func(now time.Time) (a *answer, until time.Time)

func known(v any) poll      { return answer{value: v}.poll }
func failed(err error) poll { return answer{err: err}.poll }

func (a answer) poll(time.Time) (*answer, time.Time) { return &a, time.Time{} }

func (f *front) add(q question) { f.questions = append(f.questions, q) }

// answer answers what can be answered, and forgets clients that have gone.
func (f *front) answer(now time.Time) {
	f.at = time.Time{}
	left := f.questions[:0]
	for _, q := range f.questions {
		a, until := q.poll(now)
		switch {
		case a != nil:
			q.reply <- *a
		case q.ctx.Err() == nil:
			left = append(left, q)
			f.at = earlier(f.at, until)
		}
	}
	clear(f.questions[len(left):])
	f.questions = left
	if len(left) == 0 {
		clear(f.statuses.answers) // that a client which has gone was waiting for
	}
}

// patience is for clients that have asked for what a master has to begin: until when they may wait for it, or, when
// that time has passed, what is wrong. While an attempt runs that has its own limit.
func (f *front) patience(asked, now time.Time) (until time.Time, err error) {
	if f.sv.attempt != nil {
		return time.Time{}, nil
	}
	if f.sv.moved.After(asked) {
		asked = f.sv.moved
	}
	return f.unansweredAfter(asked, now)
}

// unansweredAfter returns until when a master may answer what it was told, or that it has not.
func (f *front) unansweredAfter(told, now time.Time) (until time.Time, err error) {
	switch until = told.Add(f.sv.masterLimit()); {
	case now.Before(until):
		return until, nil
	case f.sv.current == nil:
		return until, problem(http.StatusServiceUnavailable, "%s", f.absence())
	}
	return until, problem(http.StatusGatewayTimeout, "%s", noAnswer(f.sv.current))
}

// noAnswer says that a master does not answer.
func noAnswer(c *masterConn) string {
	p := control.Look(c.pid)
	p.PID = c.pid
	return p.NoAnswer("master")
}
