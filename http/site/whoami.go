package site

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// answer is a body that never changes. The slices are shared by all requests: a Header's methods never write to them.
type answer struct {
	status       int
	contentType  []string
	length       []string
	cacheControl []string
	body         []byte
}

func newAnswer(status int, contentType string, body []byte) answer {
	return answer{
		status: status, contentType: []string{contentType}, length: []string{strconv.Itoa(len(body))},
		cacheControl: []string{"no-store"}, body: body,
	}
}

func (a *answer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h["Content-Type"] = a.contentType
	h["Cache-Control"] = a.cacheControl
	if a.status != http.StatusNoContent && a.status != http.StatusNotModified {
		h["Content-Length"] = a.length
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // for HEAD, and for a status without a body, net/http drops it
}

func newWhoami(self Self) (http.Handler, error) {
	body, err := json.Marshal(self)
	if err != nil {
		return nil, fmt.Errorf("whoami: %w", err)
	}
	a := newAnswer(http.StatusOK, "application/json", append(body, '\n'))
	return readOnly(&a), nil
}
