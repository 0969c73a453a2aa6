package websocket

import (
	"cmp"
	"context"
	"errors"
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
// connection may be closed for a reload; an error closes it. ctx has the values of the request's context, and does not end
// with the connection: Send then fails.
//
// Threading: called by one goroutine for each connection.
type Answer func(ctx context.Context, c *Conn, m Message) error

// maxMessage is the size of a message beyond which the connection is closed, with 1009.
const maxMessage = 1 << 20

// Handler returns the handler that accepts WebSocket connections and answers their messages, of up to 1 MiB; larger ones
// are compressed if the client can (permessage-deflate). A text that is not UTF-8 is not answered: the connection is closed,
// with 1007. Browsers are accepted from pages of the same host only. Served by httpworker it takes part in drains.
func Handler(answer Answer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serve(w, r, answer) })
}

// Echo returns the handler that sends every message back.
func Echo() http.Handler {
	return Handler(func(ctx context.Context, c *Conn, m Message) error { return c.Send(ctx, m) })
}

func serve(w http.ResponseWriter, r *http.Request, answer Answer) {
	ctx := context.WithoutCancel(r.Context())
	t := newTap()
	c, err := ws.Accept(&hijacker{w, t}, r, &ws.AcceptOptions{CompressionMode: ws.CompressionNoContextTakeover})
	if err != nil {
		return // the client has been told
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(maxMessage)
	p := &parting{conn: c, tap: t, over: make(chan struct{})}
	defer close(p.over)
	defer httpworker.OnDrain(ctx, func() { p.run(ctx) })()
	for err == nil {
		err = converse(ctx, c, t, answer)
	}
	switch wrong := t.wrong.Load(); {
	case wrong != 0:
		t.closed.Store(true)
		_ = c.Close(ws.StatusCode(wrong), "")
	case errors.Is(err, errEncoding):
		_ = c.Close(ws.StatusInvalidFramePayloadData, "the text is not UTF-8")
	}
}

var (
	// errParted ends a conversation whose close a message has crossed.
	errParted = errors.New("websocket: closed")
	// errEncoding ends one with a text that is none.
	errEncoding = errors.New("websocket: the text is not UTF-8")
)

// converse receives a message and answers it.
func converse(ctx context.Context, c *ws.Conn, t *tap, answer Answer) error {
	kind, data, err := read(ctx, c, t)
	if t.done.Load() {
		return cmp.Or(err, errParted)
	}
	if err != nil {
		if t.wrong.Load() == 0 && ws.CloseStatus(err) == -1 {
			t.linger() // no close has come: the library may have written one, with what is wrong
		}
		return err
	}
	if kind == ws.MessageText && !utf8.Valid(data) {
		return errEncoding
	}
	err = answer(ctx, &Conn{c}, Message{kind, data})
	t.between()
	return err
}
