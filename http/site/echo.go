package site

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"

	"baton/http/internal/proxy"
)

const bufferSize = 32 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// echo answers with the request's body as it comes. A body that breaks off breaks off the answer.
func echo(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	_ = rc.EnableFullDuplex() // where it is not possible the echo starts when the body has come
	h := w.Header()
	h.Set("Content-Type", cmp.Or(r.Header.Get("Content-Type"), "application/octet-stream"))
	if r.ContentLength >= 0 {
		h.Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	begun, err := echoBody(w, rc, r, buf[:])
	switch {
	case err == nil:
	case !begun:
		h.Del("Content-Length")
		proxy.AnswerBadBody(w, r, err)
	default:
		panic(http.ErrAbortHandler)
	}
}

// echoBody flushes when there is more to wait for. begun reports whether it has written something.
func echoBody(w io.Writer, rc *http.ResponseController, r *http.Request, buf []byte) (begun bool, err error) {
	left := r.ContentLength
	for {
		n, err := r.Body.Read(buf)
		if n > 0 {
			begun = true
			if _, werr := w.Write(buf[:n]); werr != nil {
				return begun, werr
			}
		}
		left -= int64(n)
		switch {
		case errors.Is(err, io.EOF):
			return begun, nil
		case err != nil:
			return begun, err
		case n == 0 || left == 0:
			continue
		}
		if err := rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return begun, err
		}
	}
}
