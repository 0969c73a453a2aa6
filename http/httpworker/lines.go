package httpworker

import "bytes"

// lines looks for the empty line that ends a header, in bytes that come in pieces.
//
// It counts as net/http's parser does: a line ends with LF, and CR before it is no part of it. Empty lines before the
// first other byte are no end: clients of old send them after a POST, and net/http skips them.
type lines struct {
	began bool  // a byte other than CR and LF was seen
	line  uint8 // what the current line has so far
}

// What a line has so far.
const (
	lineEmpty uint8 = iota
	lineCR
	lineText
)

// scan looks at p and returns how many bytes of it belong to the header, and whether the header ends there.
func (l *lines) scan(p []byte) (n int, end bool) {
	for n < len(p) {
		i := bytes.IndexByte(p[n:], '\n')
		if i < 0 {
			l.extend(p[n:])
			return len(p), false
		}
		l.extend(p[n : n+i])
		n += i + 1
		if l.line != lineText && l.began {
			return n, true
		}
		l.line = lineEmpty
	}
	return n, false
}

func (l *lines) extend(p []byte) {
	switch {
	case len(p) == 0:
	case len(p) == 1 && p[0] == '\r' && l.line == lineEmpty:
		l.line = lineCR
	default:
		l.line, l.began = lineText, true
	}
}
