package httpworker

// framing follows the requests in the bytes that net/http gets, so that it never gets a byte beyond the end of the
// header or of the body that it is reading. Hence at any moment the connection knows how many bytes of the next
// request net/http has: none, or the one that its background read took while a handler ran.
//
// The header's end is found here. What follows it the handler says, see [framing.body].
type framing struct {
	part   part
	faults faults // of the last header that has ended
	alien  bool   // it begins as a TLS handshake does, and no request
	head   lines  // in partHead
	size   int    // bytes of head
	left   int64  // in partLength
	chunks chunks
}

// tlsHandshake is the first byte of a TLS connection. No method begins with it.
const tlsHandshake = 0x16

type part uint8

const (
	partHead      part = iota // in a header, or before it
	partHeadEnded             // behind a header, nobody has said yet what follows
	partLength                // in a body of known length
	partChunks                // in a chunked body
	partOpaque                // this is no HTTP any more
)

// take returns how many bytes of p net/http may have now: at least one.
func (f *framing) take(p []byte) int {
	switch f.part {
	case partHead:
		f.alien = f.alien || f.size == 0 && len(p) > 0 && p[0] == tlsHandshake
		n, end := f.head.scan(p)
		f.size += n
		if end {
			f.part, f.faults = partHeadEnded, f.head.faults
		}
		return n
	case partHeadEnded:
		f.next() // before it calls the handler, net/http reads on only if there is no body
		return f.take(p)
	case partLength:
		return f.takeLength(len(p))
	case partChunks:
		n, end := f.chunks.scan(p)
		if end {
			f.next()
		}
		return n
	case partOpaque:
	}
	return len(p)
}

func (f *framing) takeLength(have int) int {
	n := min(int64(have), f.left)
	f.left -= n
	if f.left == 0 {
		f.next()
	}
	return int(n)
}

// room returns how many of want bytes may be asked from the socket, at least one, so that little must be held back.
func (f *framing) room(want int) int {
	if f.part == partLength {
		return int(min(int64(want), f.left))
	}
	return want
}

// body says what follows the header that has ended: length bytes, or a chunked body if length is negative.
func (f *framing) body(length int64) {
	switch {
	case f.part != partHeadEnded: // it is the next request's already
	case length == 0:
		f.next()
	case length > 0:
		f.part, f.left = partLength, length
	default:
		f.part, f.chunks = partChunks, chunks{}
	}
}

// next begins a request.
func (f *framing) next() { f.part, f.head, f.size, f.alien = partHead, lines{}, 0, false }

// between reports that what comes next begins a request: before a handler has said that there is a body, net/http reads on
// only if there is none.
func (f *framing) between() bool { return f.part == partHeadEnded || f.untouched() }

// inBody reports that the handler's request has more body to come.
func (f *framing) inBody() bool { return f.part == partLength || f.part == partChunks }

// untouched reports that nothing of the next request was taken.
func (f *framing) untouched() bool { return f.part == partHead && f.size == 0 }

// began reports that a request has begun and its handler has not.
func (f *framing) began() bool {
	return f.part == partHeadEnded || f.part == partHead && f.head.began
}
