// Package websocket answers WebSocket messages, and ends connections in a reload such that no message is lost without its
// sender knowing.
//
// A connection cannot move to another process, so its client has to come back. What it can rely on: a message that the
// worker had received whole is answered before the close, and the close says why: 1012, service restart, spread over the
// last part of the drain so that not all clients come back in the same moment; or 1001, going away, within a second when the
// whole program stops. A message that crosses the close on its way is not answered; its sender knows, by the close.
package websocket
