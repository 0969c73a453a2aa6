package site

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
)

const bufferSize = 32 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// echo answers with the body of the request, as it comes. A body that breaks off breaks off the answer.
func echo(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	_ = rc.EnableFullDuplex() // HTTP/2 always is; where it is not possible the echo starts when the body has come
	h := w.Header()
	h.Set("Content-Type", cmp.Or(r.Header.Get("Content-Type"), "application/octet-stream"))
	if r.ContentLength >= 0 {
		h.Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	if err := echoBody(w, rc, r, buf[:]); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// echoBody flushes what it has when there is more to wait for.
func echoBody(w io.Writer, rc *http.ResponseController, r *http.Request, buf []byte) error {
	left := r.ContentLength
	for {
		n, err := r.Body.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		left -= int64(n)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case n == 0 || left == 0:
			continue
		}
		if err := rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
	}
}
