// Package httpworker serves an http.Handler in a worker process, and drains it without losing a request.
//
// One http.Server serves all listeners, and Shutdown is never called on it: a Go server in shutdown drops requests
// that it has read completely. Instead every connection is one of package conns, whose engine keeps the time limits,
// moves it and closes it. When a header is complete and when nothing of a next request was read net/http says itself,
// by ConnState and by how much it asks for; the self-test checks at the start that it still does.
//
// What a drain does: accepting stops; an idle connection moves to another worker if one serves, or else stays open
// until its idle timeout, exactly as without the drain, so that no client writes into a connection that is being
// closed; the next HTTP/1.x response on one that cannot move says "Connection: close", unless the client has sent
// more requests already. Only when the whole program stops are idle connections closed early, after a second. What is
// left when the drain's deadline comes is cut, counted and logged.
//
// Over TLS the same holds, but nothing moves. HTTP/2, with and without TLS, has an http.Server for each connection,
// and is told twice that it is to end: the first GOAWAY makes clients go elsewhere, the second one comes when
// whatever they have sent before has arrived. Handlers that have hijacked their connection, or answer without end,
// learn of the drain by Draining and OnDrain.
package httpworker
