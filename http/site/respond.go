package site

import (
	"net/http"
	"time"
)

// respond is a fixed text, after a while.
type respond struct {
	answer
	delay time.Duration
}

func newRespond(text string, status int, delay time.Duration) http.Handler {
	if status == 0 {
		status = http.StatusOK
	}
	a := newAnswer(status, "text/plain; charset=utf-8", []byte(text))
	var h http.Handler = &a
	if delay > 0 {
		h = &respond{a, delay}
	}
	if status < http.StatusMultipleChoices {
		return readOnly(h)
	}
	return h
}

func (s *respond) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	timer := time.NewTimer(s.delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		s.answer.ServeHTTP(w, r)
	case <-r.Context().Done():
		panic(http.ErrAbortHandler) // returning would answer 200 with nothing
	}
}
