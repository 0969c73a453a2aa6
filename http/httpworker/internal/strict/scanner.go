package strict

import "bytes"

// A Scanner follows the HTTP/1 requests in the bytes that net/http reads from a connection. It finds where headers
// begin and end, because net/http does not show what it has read, and reads on while a request is answered: what is
// behind the body in its buffer is the next request's. The bodies it only skips. Where it and net/http could read a
// header differently the request is refused, here or there, and is the last.
type Scanner struct {
	Max int // bytes that a header may have

	part  part
	line  []byte // the beginning of a line that has come in pieces
	size  int    // bytes of the header so far
	left  uint64 // bytes of a body, or of a chunk
	head  header // that has begun
	alien bool   // it begins as a TLS handshake does, and no request

	ahead   []Request // headers that have ended and were not asked for
	foreign bool      // what follows the last of them may be another protocol
}

// part is where the last byte was.
type part uint8

const (
	partHeader part = iota // in a header, or before it
	partBody
	partChunkSize
	partChunk
	partChunkEnd
	partTrailer
	partOpaque // this is no HTTP any more
)

// tlsHandshake is the first byte of a TLS connection. No method begins with it.
const tlsHandshake = 0x16

// Take follows p, which was read, and returns how many bytes net/http gets: empty lines before a request are dropped,
// as RFC 9112, 2.2, asks for. net/http does so only behind a POST.
func (s *Scanner) Take(p []byte) int {
	if s.part == partOpaque {
		return len(p)
	}
	for i := 0; i < len(p); {
		if s.part == partHeader && s.size == 0 && !s.foreign {
			p = p[:i+copy(p[i:], bytes.TrimLeft(p[i:], "\r\n"))]
			s.alien = s.alien || i < len(p) && p[i] == tlsHandshake
		}
		i += s.follow(p[i:])
	}
	return len(p)
}

// follow looks at the next bytes, and returns how many.
func (s *Scanner) follow(p []byte) int {
	if s.part == partBody || s.part == partChunk {
		n := min(uint64(len(p)), s.left)
		if s.left -= n; s.left == 0 {
			s.endBytes()
		}
		return int(n)
	}
	n := bytes.IndexByte(p, '\n') + 1
	if n == 0 {
		s.count(len(p))
		if len(s.line) <= s.Max { // else it is refused, or needs no more
			s.line = append(s.line, p...)
		}
		return len(p)
	}
	s.count(n)
	line := p[:n-1]
	if len(s.line) > 0 {
		line = append(s.line, line...)
		s.line = nil
	}
	s.endLine(line)
	return n
}

func (s *Scanner) count(n int) {
	if s.part == partHeader {
		s.size += n
	}
}

func (s *Scanner) endBytes() {
	if s.part == partChunk {
		s.part = partChunkEnd
	} else {
		s.next()
	}
}

func (s *Scanner) endLine(line []byte) {
	switch s.part {
	case partHeader:
		if s.head.add(line) {
			s.endHeader()
		}
	case partChunkSize:
		s.part = partTrailer
		if s.left = hex(line); s.left > 0 {
			s.part = partChunk
		}
	case partChunkEnd:
		s.part = partChunkSize
	case partTrailer:
		if len(bytes.TrimSuffix(line, []byte("\r"))) == 0 {
			s.next()
		}
	case partBody, partChunk, partOpaque:
	}
}

func (s *Scanner) endHeader() {
	h := s.head
	s.ahead = append(s.ahead, Request{defects: h.defects, tooLarge: s.size > s.Max})
	s.foreign = s.foreign || h.foreign
	s.next()
	switch {
	case h.defects&hasCoding != 0:
		s.part = partChunkSize
	case h.length > 0:
		s.part, s.left = partBody, h.length
	}
}

// next begins a request.
func (s *Scanner) next() { s.part, s.size, s.head = partHeader, 0, header{} }

// hex reads the size of a chunk. What is malformed net/http refuses: there is no next request then.
func hex(line []byte) (n uint64) {
	for _, b := range line {
		i := bytes.IndexByte([]byte("0123456789abcdef"), b|0x20)
		if i < 0 || b < '0' {
			break
		}
		n = n<<4 | uint64(i)
	}
	return n
}

// Next takes the header of the request whose handler is called.
func (s *Scanner) Next() Request {
	if len(s.ahead) == 0 {
		return Request{}
	}
	r := s.ahead[0]
	s.ahead = s.ahead[:copy(s.ahead, s.ahead[1:])]
	return r
}

// Idle is called when a request was answered. It reports whether the next one has begun.
func (s *Scanner) Idle() bool {
	if len(s.ahead) == 0 {
		s.foreign = false
		if s.part != partHeader {
			s.next()
		}
	}
	return s.Began()
}

// Began reports that something of a request was read that is not being answered.
func (s *Scanner) Began() bool { return len(s.ahead) > 0 || s.part == partHeader && s.size > 0 }

// InBody reports that the request that is being answered has more body to come.
func (s *Scanner) InBody() bool {
	return len(s.ahead) == 0 && s.part != partHeader && s.part != partOpaque
}

// TooLarge reports that a header has reached its size and has not ended.
func (s *Scanner) TooLarge() bool { return s.part == partHeader && s.size >= s.Max }

// IsTLS reports that what comes is a TLS handshake.
func (s *Scanner) IsTLS() bool { return s.alien && s.part == partHeader }

// Stop has everything pass that comes.
func (s *Scanner) Stop() { *s = Scanner{part: partOpaque} }
