// Package httpworker serves an http.Handler in a worker process, and drains it without losing a request.
//
// One http.Server serves all listeners, and Shutdown is never called on it: a Go server in shutdown drops requests
// that it has read completely. Instead every connection is a net.Conn of this package, which knows where each
// request begins and ends, keeps the time limits and the exact limit of a header's size, and closes so that the last
// response arrives.
//
// What a drain does: accepting stops; every HTTP/1.x response says "Connection: close"; an idle connection moves to another
// worker if one serves, or else stays open until its idle timeout, exactly as without the drain, so that no client writes
// into a connection that is being closed. Only when the whole program stops are idle connections closed early, after a
// second. What is left when the drain's deadline comes is cut, counted and logged.
//
// Over TLS the same holds, but nothing moves. HTTP/2, with and without TLS, is told twice that it is to end: the first
// GOAWAY makes clients go elsewhere, the second one comes when whatever they have sent before has arrived. Handlers that
// have hijacked their connection, or answer without end, learn of the drain by Draining and OnDrain.
package httpworker
