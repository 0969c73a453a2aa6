package site

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

func TestRespond(t *testing.T) {
	s := start(t, Config{Routes: []Route{
		{Path: "/", Respond: text("hello\n")},
		{Path: "/empty", Respond: text("")},
		{Path: "/busy", Respond: text("later"), Status: 503},
		{Path: "/nothing", Respond: text(""), Status: 204},
	}})
	for _, tt := range []struct {
		path, body string
		status     int
	}{{"/", "hello\n", 200}, {"/empty", "", 200}, {"/busy", "later", 503}, {"/nothing", "", 204}} {
		resp, got := get(t, s.URL+tt.path)
		if got != tt.body || resp.StatusCode != tt.status {
			t.Errorf("%s: %s %q", tt.path, resp.Status, got)
		}
		if ct := resp.Header.Get("Content-Type"); ct != "text/plain; charset=utf-8" {
			t.Errorf("%s: %s", tt.path, ct)
		}
	}
}

func TestRespondWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRespond("x", 0, time.Minute)
		begin, w := time.Now(), httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if took := time.Since(begin); took != time.Minute || w.Body.String() != "x" {
			t.Errorf("%q after %s", w.Body, took)
		}
	})
}

// A client that goes away, or a drain deadline, ends the wait; the answer is then no answer, not an empty one.
func TestRespondStopsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin, w := time.Now(), httptest.NewRecorder()
		defer func() {
			err, _ := recover().(error)
			if !errors.Is(err, http.ErrAbortHandler) || time.Since(begin) != time.Second || w.Body.Len() != 0 {
				t.Errorf("%v after %s", err, time.Since(begin))
			}
		}()
		newRespond("x", 0, time.Minute).ServeHTTP(w, httptest.NewRequest("GET", "/", nil).WithContext(ctx))
	})
}
