package websocket

import (
	"unicode/utf8"

	ws "github.com/coder/websocket"
)

// frames follows the frames that a client sends, in bytes that come in pieces, and finds what the library lets pass or
// ends without a code: a frame that is not masked, a length that is none, and a reason for a close that is not UTF-8.
type frames struct {
	frameHead
	left   uint64 // bytes of the payload that are still to come
	close  []byte // the payload of a close, unmasked, so far
	closes bool   // the frame is a close
}

// maxControl is how long the payload of a control frame may be.
const maxControl = 125

// follow looks at p. At a violation it returns the code with which the connection is to be closed, and how many bytes
// of p the library may have so that it does not see a whole frame.
func (f *frames) follow(p []byte) (n int, wrong ws.StatusCode) {
	for n < len(p) {
		if !f.isComplete() {
			complete := f.add(p[n])
			if f.have == 3 && f.endless() {
				wrong = ws.StatusProtocolError
			} else if complete {
				wrong = f.begin()
			}
			n++
		} else {
			n += f.payload(p[n:])
		}
		if wrong == 0 && f.isComplete() && f.left == 0 {
			wrong = f.end()
		}
		if wrong != 0 {
			return n - 1, wrong
		}
	}
	return n, 0
}

// endless reports whether the first byte of a length says that it is 2^63 or more. The library, which need not have
// seen the mask, would end the connection without a word when it has the whole length.
func (f *frames) endless() bool { return f.head[1]&lengthBits == 127 && f.head[2]&0x80 != 0 }

// begin is called when the head is complete.
func (f *frames) begin() (wrong ws.StatusCode) {
	f.left = f.length()
	f.closes, f.close = f.opcode() == opClose, nil
	if !f.masked() {
		return ws.StatusProtocolError
	}
	return 0
}

// payload takes the bytes of the payload that p has, and returns how many these are.
func (f *frames) payload(p []byte) int {
	n := int(min(f.left, uint64(len(p))))
	f.left -= uint64(n)
	if f.closes && len(f.close)+n <= maxControl { // else the library refuses it
		mask := f.head[f.have-4:]
		for _, b := range p[:n] {
			f.close = append(f.close, b^mask[len(f.close)%4])
		}
	}
	return n
}

// end is called when the frame is complete.
func (f *frames) end() (wrong ws.StatusCode) {
	f.have = 0
	if len(f.close) > 2 && !utf8.Valid(f.close[2:]) {
		return ws.StatusInvalidFramePayloadData
	}
	return 0
}
