package wire

import (
	"encoding/json"
	"fmt"
)

// Version is the version of all messages of this release. It changes when an older release
// could misread a message, not when a field is added.
const Version = 1

// MaxFrame is the size in bytes that no encoded message exceeds; it fits the smallest default
// socket buffer with room to spare. What may be larger (config, certificates) travels as a
// descriptor of a memory file.
const MaxFrame = 64 << 10

// MaxFDs is how many descriptors one message carries at most (the kernel's SCM_MAX_FD is 253).
const MaxFDs = 200

// A Message is one of the structs of this package. Kind is its name on the wire.
type Message interface{ Kind() string }

// A Frame is a message as it was read: its kind is known, its body is not decoded yet.
type Frame struct {
	V    int             `json:"v"`
	T    string          `json:"t"`
	Body json.RawMessage `json:"m,omitempty"`
}

type outFrame struct {
	V    int     `json:"v"`
	T    string  `json:"t"`
	Body Message `json:"m,omitempty"`
}

// Encode returns m as one packet. It fails for a message beyond [MaxFrame].
func Encode(m Message) ([]byte, error) {
	b, err := Marshal(outFrame{V: Version, T: m.Kind(), Body: m})
	if err != nil {
		return nil, fmt.Errorf("wire: encode %s: %w", m.Kind(), err)
	}
	if len(b) > MaxFrame {
		return nil, fmt.Errorf("wire: encode %s: %d bytes, the limit is %d", m.Kind(), len(b), MaxFrame)
	}
	return b, nil
}

// Decode reads the outside of a packet. The version is the caller's to judge.
func Decode(p []byte) (Frame, error) {
	var f Frame
	if err := json.Unmarshal(p, &f); err != nil {
		return Frame{}, fmt.Errorf("wire: decode: %w", err)
	}
	if f.T == "" {
		return Frame{}, fmt.Errorf("wire: decode: no kind")
	}
	return f, nil
}

// Into decodes the body of f. The kind of m must be f's.
func (f Frame) Into(m Message) error {
	if f.T != m.Kind() {
		return fmt.Errorf("wire: a %q is no %q", f.T, m.Kind())
	}
	if len(f.Body) == 0 {
		return nil
	}
	if err := Unmarshal(f.Body, m); err != nil {
		return fmt.Errorf("wire: decode %s: %w", f.T, err)
	}
	return nil
}

// Check returns an error that names both versions if f is of another one.
func (f Frame) Check() error {
	if f.V != Version {
		return fmt.Errorf("wire: peer speaks version %d, this program %d", f.V, Version)
	}
	return nil
}

// Expect is Check and Into.
func (f Frame) Expect(m Message) error {
	if err := f.Check(); err != nil {
		return err
	}
	return f.Into(m)
}

// On decodes a frame and gives what it says to do.
func On[M Message](f Frame, do func(M)) error {
	m := new(M)
	if err := f.Into(any(m).(Message)); err != nil {
		return err
	}
	do(*m)
	return nil
}
