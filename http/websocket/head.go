package websocket

import "encoding/binary"

const (
	finalBit   = 0x80
	opcodeBits = 0x0f
	opClose    = 0x8
	maskBit    = 0x80
	lengthBits = 0x7f
)

// frameHead is the head of a frame, in bytes that come in pieces.
//
// (https://www.rfc-editor.org/rfc/rfc6455#section-5.2)
type frameHead struct {
	head [2 + 8 + 4]byte
	have int // bytes of it
}

// add takes a byte, and reports whether the head is complete by it.
func (h *frameHead) add(b byte) (complete bool) {
	h.head[h.have] = b
	h.have++
	return h.isComplete()
}

func (h *frameHead) isComplete() bool { return h.have == h.size() }

// size returns how many bytes the head has, as far as it is known.
func (h *frameHead) size() int {
	if h.have < 2 {
		return 2
	}
	n := 2
	switch h.head[1] & lengthBits {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if h.masked() {
		n += 4
	}
	return n
}

func (h *frameHead) masked() bool { return h.head[1]&maskBit != 0 }

func (h *frameHead) opcode() byte { return h.head[0] & opcodeBits }

// length returns that of the payload, when the head is complete.
func (h *frameHead) length() uint64 {
	switch n := h.head[1] & lengthBits; n {
	case 126:
		return uint64(binary.BigEndian.Uint16(h.head[2:]))
	case 127:
		return binary.BigEndian.Uint64(h.head[2:])
	default:
		return uint64(n)
	}
}
