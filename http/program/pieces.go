package program

import (
	"bytes"
	"unicode"
	"unicode/utf8"
)

// pieceLimit is what the kernel writes to a pipe as a whole, whoever else writes to it (PIPE_BUF). A longer line is
// cut, or workers that share a pipe would mix their lines.
const pieceLimit = 4096

// recordLimit leaves room for what a record has beside the line.
const recordLimit = pieceLimit - 1024

// pieces cuts an output into lines, and lines that are too long into parts.
type pieces struct {
	room int                        // of a piece
	cost func(r rune, size int) int // what a rune takes of it
	part int                        // of a long line; 0: it is a whole one
	more bool                       // the rest of the line follows
}

// split is a bufio.SplitFunc.
func (p *pieces) split(data []byte, atEOF bool) (advance int, piece []byte, err error) {
	end := bytes.IndexByte(data, '\n')
	advance = end + 1
	if end < 0 {
		end, advance = len(data), len(data)
	}
	n := p.fit(data[:end])
	isPart := n < end
	if len(data) == 0 || !isPart && end == advance && !atEOF {
		return 0, nil, nil // more of it is to come
	}
	if !p.more {
		p.part = 0
	}
	if isPart || p.more {
		p.part++
	}
	p.more = isPart
	if isPart {
		advance = n
	}
	return advance, data[:n], nil
}

// fit is how many bytes of a line fit into a piece; no rune is torn.
func (p *pieces) fit(line []byte) (n int) {
	for room := p.room; n < len(line); {
		r, size := utf8.DecodeRune(line[n:])
		if room -= p.cost(r, size); room < 0 {
			break
		}
		n += size
	}
	return n
}

func rawCost(_ rune, size int) int { return size }

// recordCost is what a rune takes in a log record at most: what cannot be printed is written as \U0010ffff.
func recordCost(r rune, size int) int {
	const escaped, quoted, replaced = 10, 2, 3
	switch {
	case r == utf8.RuneError:
		return replaced
	case r == '"' || r == '\\':
		return quoted
	case !unicode.IsPrint(r):
		return escaped
	}
	return size
}
