// Package strict finds in the headers of HTTP/1 requests what net/http takes without a word, and other servers and
// proxies take otherwise: a client that writes such a header may want one of them to see two requests where another
// one sees one (request smuggling). Such requests are to be refused, whatever they mean. What net/http refuses itself
// is not looked for.
//
// None of it can be seen in an http.Request: net/http has joined lines, dropped fields and forgotten how lines have
// ended.
//
// (https://www.rfc-editor.org/rfc/rfc9112#section-11.2)
package strict

import (
	"bytes"
	"net/http"
	"strconv"
)

// A Request is what was seen of one.
type Request struct {
	defects  defects
	tooLarge bool
}

// TooLarge reports that the header is larger than it may be.
func (r Request) TooLarge() bool { return r.tooLarge }

// Refusal says why a request is refused, or "".
func (r Request) Refusal(q *http.Request) string { return r.defects.refusal(q.ProtoAtLeast(1, 1)) }

// defects are of a header.
type defects uint8

const (
	bareLF     defects = 1 << iota // a line that ends without CR
	fold                           // a line that goes on in the next one
	noName                         // a field without a name
	twoLengths                     // though they may be the same
	hasLength                      // no defect without the next one
	hasCoding
)

func (d defects) refusal(http11 bool) string {
	switch {
	case d&bareLF != 0:
		return "a line of the header does not end with CR LF"
	case d&fold != 0:
		return "a line of the header begins with a space"
	case d&noName != 0:
		return "a field of the header has no name"
	case d&twoLengths != 0:
		return "there are two Content-Length fields"
	case d&hasCoding != 0 && d&hasLength != 0:
		return "there are Content-Length and Transfer-Encoding"
	case d&hasCoding != 0 && !http11:
		return "Transfer-Encoding is not known in HTTP/1.0"
	}
	return ""
}

// header is one that is read.
type header struct {
	defects defects
	begun   bool   // its first line has ended
	foreign bool   // what follows the request may be another protocol
	length  uint64 // of the body
}

// add looks at the next line, without its LF, and reports whether the header ends with it. Lines end as for net/http:
// with LF, and CR before it is no part of them.
func (h *header) add(line []byte) (end bool) {
	line, cr := bytes.CutSuffix(line, []byte("\r"))
	if !h.begun && len(line) == 0 {
		return false
	}
	if !cr {
		h.defects |= bareLF
	}
	switch {
	case !h.begun:
		h.begun = true
		h.foreign = bytes.HasPrefix(line, []byte("CONNECT ")) || bytes.HasPrefix(line, []byte("PRI "))
		return false
	case len(line) == 0:
		return true
	}
	switch line[0] {
	case ' ', '\t':
		h.defects |= fold
	case ':':
		h.defects |= noName
	case 'c', 'C':
		if v, ok := field(line, "content-length:"); ok {
			h.addLength(v)
		}
	case 't', 'T':
		if _, ok := field(line, "transfer-encoding:"); ok {
			h.defects |= hasCoding
		}
	case 'u', 'U':
		if _, ok := field(line, "upgrade:"); ok {
			h.foreign = true
		}
	}
	return false
}

func (h *header) addLength(v []byte) {
	if h.defects&hasLength != 0 {
		h.defects |= twoLengths
	}
	h.defects |= hasLength
	h.length, _ = strconv.ParseUint(string(bytes.TrimSpace(v)), 10, 63) // of another one net/http says what is wrong
}

// field returns the value of a line if it is that field, whose name is in small letters and ends with a colon.
func field(line []byte, name string) (value []byte, ok bool) {
	if len(line) < len(name) {
		return nil, false
	}
	for i := range len(name) { // bytes.EqualFold takes a microsecond for the header of a small request
		c := line[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != name[i] {
			return nil, false
		}
	}
	return line[len(name):], true
}
