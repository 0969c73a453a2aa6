package httpworker

import "bytes"

// chunks looks for the end of a chunked body, in bytes that come in pieces. It judges nothing: net/http reads the same
// bytes and refuses what is malformed. Behind a malformed body there is no next request, so it may end anywhere.
type chunks struct {
	state   chunkState
	left    uint64 // of the chunk's size, then of its data
	trailer lines
}

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkExtension
	chunkData
	chunkDataEnd
	chunkTrailer
)

// scan looks at p and returns how many bytes of it belong to the body, and whether the body ends there.
func (c *chunks) scan(p []byte) (n int, end bool) {
	for n < len(p) {
		switch c.state {
		case chunkSize:
			n += c.size(p[n])
		case chunkExtension:
			n += c.skipLine(p[n:], c.afterSize())
		case chunkData:
			n += c.data(len(p) - n)
		case chunkDataEnd:
			n += c.skipLine(p[n:], chunkSize)
		case chunkTrailer:
			m, end := c.trailer.scan(p[n:])
			return n + m, end
		}
	}
	return n, false
}

// size takes one digit of a chunk's size; what is no digit is left to the rest of the line.
func (c *chunks) size(b byte) int {
	digit, ok := unhex(b)
	if !ok {
		c.state = chunkExtension
		return 0
	}
	c.left = c.left<<4 | digit
	return 1
}

func unhex(b byte) (uint64, bool) {
	switch {
	case '0' <= b && b <= '9':
		return uint64(b - '0'), true
	case 'a' <= b && b <= 'f':
		return uint64(b-'a') + 10, true
	case 'A' <= b && b <= 'F':
		return uint64(b-'A') + 10, true
	}
	return 0, false
}

func (c *chunks) afterSize() chunkState {
	if c.left > 0 {
		return chunkData
	}
	return chunkTrailer
}

// skipLine takes p up to the end of the line; behind it comes next.
func (c *chunks) skipLine(p []byte, next chunkState) int {
	i := bytes.IndexByte(p, '\n')
	if i < 0 {
		return len(p)
	}
	c.state = next
	c.trailer = lines{began: true} // an empty line ends a trailer that has no other
	return i + 1
}

func (c *chunks) data(have int) int {
	n := uint64(have)
	if n >= c.left {
		n = c.left
		c.state = chunkDataEnd
	}
	c.left -= n
	return int(n)
}
