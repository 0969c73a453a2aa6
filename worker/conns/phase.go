package conns

// phase is what a connection is doing. It changes by the table below only.
type phase uint8

const (
	none         phase = iota
	handshaking        // the TLS handshake has not ended
	fresh              // new, and nobody has looked whether something has come
	idle               // between two messages, or before the first
	greeting           // before the first message, and it is not known that the connection waits for one
	receiving          // a message has begun and is not complete
	active             // a message is being answered
	detached           // the protocol keeps the connection for itself
	transferring       // offered to another worker, and not answered
	parked             // only a descriptor, in the pool of idle connections: there is no Conn
	moved              // another process has it
	lingering          // the last word was said, the client is to close
	closed
	phases
)

// event is what happens to a connection.
type event uint8

const (
	handshook event = iota // the TLS handshake has ended well
	greets                 // the server may write first
	polled                 // something may have come with a new connection, and has not
	begins                 // the first byte of a message was read
	completes              // a message is complete, or its first byte is as good as that
	done                   // a message was answered
	detaches               // what is spoken is nobody's business any more
	offered                // to another worker
	refused                // nobody has taken it
	taken                  // somebody has
	arrives                // from another worker, without a message
	wakes                  // a message has come to a parked connection
	lingers                // it is to be closed when its client has read everything
	shuts                  // it is closed
	events
)

// transitions is the life of a connection. What is not in it does not happen, or changes nothing.
//
// A connection that is parked in its steady state takes the same way as one that is handed over: offered, taken, and
// in the same process it arrives.
var transitions = [phases][events]phase{
	none:        {arrives: parked},
	handshaking: {handshook: fresh, shuts: closed},
	fresh: {
		greets: greeting, polled: idle, begins: receiving, completes: active, detaches: detached, offered: transferring,
		lingers: lingering, shuts: closed,
	},
	idle: {
		begins: receiving, completes: active, done: idle, detaches: detached, offered: transferring, lingers: lingering,
		shuts: closed,
	},
	greeting:     {completes: active, done: idle, lingers: lingering, shuts: closed},
	receiving:    {completes: active, done: idle, detaches: detached, lingers: lingering, shuts: closed},
	active:       {completes: active, done: idle, detaches: detached, lingers: lingering, shuts: closed},
	detached:     {lingers: lingering, shuts: closed},
	transferring: {refused: idle, taken: moved, shuts: closed},
	parked:       {wakes: fresh, offered: transferring, shuts: closed},
	moved:        {shuts: closed},
	lingering:    {shuts: closed},
	closed:       {},
}

// waits reports that the connection waits for a message, in somebody's Read.
func (p phase) waits() bool { return p == fresh || p == idle }

// answering reports that a client waits for an answer.
func (p phase) answering() bool { return p == receiving || p == active }

// ends reports that nothing is lost when the connection is closed.
func (p phase) ends() bool { return p == moved || p == lingering || p == closed }
