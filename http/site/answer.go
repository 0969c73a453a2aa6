package site

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

//go:embed page.html
var page []byte

// builtIn returns the site of a config without routes.
func builtIn(self Self) (http.Handler, error) {
	who, err := newWhoami(self)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/{$}", newAnswer(http.StatusOK, "text/html; charset=utf-8", page))
	mux.Handle("/whoami", who)
	return noTunnel(readOnly(mux)), nil
}

func newWhoami(self Self) (http.Handler, error) {
	body, err := json.Marshal(self)
	if err != nil {
		return nil, fmt.Errorf("whoami: %w", err)
	}
	return readOnly(newAnswer(http.StatusOK, "application/json", append(body, '\n'))), nil
}

func newRespond(text string, status int, delay time.Duration) http.Handler {
	if status == 0 {
		status = http.StatusOK
	}
	a := newAnswer(status, "text/plain; charset=utf-8", []byte(text))
	a.delay = delay
	if status < http.StatusMultipleChoices {
		return readOnly(a)
	}
	return a
}

// answer is a body that never changes. The slices are shared by all requests: a Header's methods never write to them.
type answer struct {
	status       int
	contentType  []string
	length       []string
	cacheControl []string
	body         []byte
	delay        time.Duration
}

func newAnswer(status int, contentType string, body []byte) *answer {
	a := &answer{status: status, contentType: []string{contentType}, cacheControl: []string{"no-store"}, body: body}
	if status != http.StatusNoContent && status != http.StatusNotModified {
		a.length = []string{strconv.Itoa(len(body))}
	}
	return a
}

// ServeHTTP answers after the delay. A client that goes away, or a drain's deadline, ends the wait.
func (a *answer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if a.delay > 0 {
		timer := time.NewTimer(a.delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler) // returning would answer 200 with nothing
		}
	}
	h := w.Header()
	h["Content-Type"], h["Cache-Control"] = a.contentType, a.cacheControl
	if a.length != nil {
		h["Content-Length"] = a.length
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // for HEAD, and for a status without a body, net/http drops it
}
