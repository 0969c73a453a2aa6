package httpworker

// frames follows the HTTP/2 frames of one direction of a connection, in bytes that come in pieces.
type frames struct {
	head [frameHead]byte
	have int // bytes of head
	left int // bytes of the payload that are still to come
}

const frameHead = 9

// Types of frames, and their flags.
const (
	frameHeaders      = 0x1
	framePing         = 0x6
	frameContinuation = 0x9

	flagAck        = 0x1
	flagEndHeaders = 0x4
)

// take returns how many bytes of p belong to the present frame, and whether its head, and all of it, end there. It
// stops behind a head.
func (f *frames) take(p []byte) (n int, head, end bool) {
	if f.have < frameHead {
		n = copy(f.head[f.have:], p)
		f.have += n
		if f.have < frameHead {
			return n, false, false
		}
		f.left = int(f.head[0])<<16 | int(f.head[1])<<8 | int(f.head[2])
		return n, true, f.finish()
	}
	n = min(f.left, len(p))
	f.left -= n
	return n, false, f.finish()
}

// finish begins the next frame if this one has ended. Its head stays to be looked at.
func (f *frames) finish() bool {
	if f.left > 0 {
		return false
	}
	f.have = 0
	return true
}

// between reports that no frame is half done.
func (f *frames) between() bool { return f.have == 0 }

func (f *frames) is(kind byte) bool    { return f.head[3] == kind }
func (f *frames) has(flag byte) bool   { return f.head[4]&flag != 0 }
func (f *frames) isAck(kind byte) bool { return f.is(kind) && f.has(flagAck) }

// goAwayFrames is GOAWAY with the largest stream that there can be, and a PING: the client is to open no more streams
// here, and those that it has opened before it read this are served. When the PING comes back, no more will come.
//
// (https://www.rfc-editor.org/rfc/rfc9113#section-6.8)
const goAwayFrames = "\x00\x00\x08\x07\x00\x00\x00\x00\x00" + "\x7f\xff\xff\xff" + "\x00\x00\x00\x00" +
	"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + "lastcall"
