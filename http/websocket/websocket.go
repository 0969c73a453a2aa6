// Package websocket answers WebSocket messages, and closes connections in a reload such that no message is lost without
// its sender knowing.
//
// A connection cannot move to another process, so its client has to come back. It can rely on this: a message that the
// worker has received whole is answered before the close, and the close says why: 1012, service restart, spread over
// the last third of the drain so that not all clients come back at the same moment; or 1001, going away, within a
// second when the whole program stops. A message that crosses the close on its way is not answered; its sender knows,
// by the close.
package websocket

import (
	"context"
	"errors"
	"io"
	"net/http"
	"unicode/utf8"

	ws "github.com/coder/websocket"

	"baton/http/httpworker"
)

// A Message is a text or binary message.
type Message struct {
	Type ws.MessageType
	Data []byte
}

// A Conn is a connection, to which an Answer writes.
type Conn struct{ ws *ws.Conn }

// Send sends a message. It may block until the client reads.
func (c *Conn) Send(ctx context.Context, m Message) error { return c.ws.Write(ctx, m.Type, m.Data) }

// An Answer is called for each message that was received whole. When it returns the message counts as answered, and the
// connection may be closed for a reload; an error closes it. ctx has the values of the request's context, and does not
// end with the connection: Send then fails.
//
// Threading: called by one goroutine for each connection.
type Answer func(ctx context.Context, c *Conn, m Message) error

// maxMessage is the size of a message beyond which the connection is closed, with 1009.
const maxMessage = 1 << 20

// Handler returns the handler that accepts WebSocket connections and answers their messages, of up to 1 MiB; larger
// ones are compressed if the client can (permessage-deflate). A text that is not UTF-8 is not answered: the connection
// is closed, with 1007. Browsers are accepted from pages of the same host only. Served by httpworker it takes part in
// drains.
func Handler(answer Answer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serve(w, r, answer) })
}

// Echo returns the handler that sends every message back.
func Echo() http.Handler {
	return Handler(func(ctx context.Context, c *Conn, m Message) error { return c.Send(ctx, m) })
}

func serve(w http.ResponseWriter, r *http.Request, answer Answer) {
	ctx := context.WithoutCancel(r.Context())
	nc := newDrainConn()
	c, err := ws.Accept(&hijacker{w, nc}, r, &ws.AcceptOptions{CompressionMode: ws.CompressionNoContextTakeover})
	if err != nil {
		return // the client has been told
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(maxMessage)
	over := make(chan struct{})
	defer close(over)
	defer httpworker.OnDrain(ctx, func() { (&closer{c, nc, over}).run(ctx) })()
	for err == nil {
		err = converse(ctx, c, nc, answer)
	}
	switch violation := nc.violation.Load(); {
	case violation != 0:
		nc.told.Store(true)
		_ = c.Close(ws.StatusCode(violation), "")
	case errors.Is(err, errEncoding):
		_ = c.Close(ws.StatusInvalidFramePayloadData, "the text is not UTF-8")
	}
}

var (
	errClosed   = errors.New("websocket: closed") // a message has crossed the close
	errEncoding = errors.New("websocket: the text is not UTF-8")
)

// converse receives a message and answers it.
func converse(ctx context.Context, c *ws.Conn, nc *drainConn, answer Answer) error {
	kind, r, err := c.Reader(ctx)
	var data []byte
	if err == nil {
		nc.inMessage.Store(true)
		data, err = io.ReadAll(r)
	}
	switch {
	case err != nil:
		if !nc.closing() && nc.violation.Load() == 0 && ws.CloseStatus(err) == -1 {
			nc.linger() // no close has come: the library may have written one, with what is wrong
		}
		return err
	case nc.closing():
		return errClosed
	case kind == ws.MessageText && !utf8.Valid(data):
		return errEncoding
	}
	err = answer(ctx, &Conn{c}, Message{kind, data})
	nc.inMessage.Store(false)
	return err
}
