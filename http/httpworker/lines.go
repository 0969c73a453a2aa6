package httpworker

import "bytes"

// lines looks for the empty line that ends a header, in bytes that come in pieces, and for what is wrong with those before.
//
// It counts as net/http's parser does: a line ends with LF, and CR before it is no part of it. Empty lines before the
// first other byte are no end: clients of old send them after a POST, and net/http skips them.
type lines struct {
	began  bool // a byte other than CR and LF was seen
	first  bool // the first line has ended
	line   uint8
	cr     bool              // the current line ends with CR so far
	have   uint8             // bytes of start
	start  [longestName]byte // of a line that has come in pieces
	faults faults
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
			l.have += uint8(copy(l.start[l.have:], p[n:]))
			return len(p), false
		}
		line := p[n : n+i]
		l.extend(line)
		n += i + 1
		if l.began {
			l.judge(line)
		}
		if l.line != lineText && l.began {
			return n, true
		}
		l.line, l.cr, l.have = lineEmpty, false, 0
	}
	return n, false
}

// judge looks at a line that has ended, of which rest has come last.
func (l *lines) judge(rest []byte) {
	if l.have > 0 {
		n := int(l.have) + copy(l.start[l.have:], rest)
		rest = l.start[:n]
	}
	l.faults.look(rest, l.cr, !l.first)
	l.first = true
}

func (l *lines) extend(p []byte) {
	switch {
	case len(p) == 0:
		return
	case len(p) == 1 && p[0] == '\r' && l.line == lineEmpty:
		l.line = lineCR
	default:
		l.line, l.began = lineText, true
	}
	l.cr = p[len(p)-1] == '\r'
}
