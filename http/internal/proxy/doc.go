// Package proxy forwards requests to one upstream over HTTP/1.1 connections that it keeps.
//
// A request takes one exchange: its header is written to a connection, its body follows while it comes, the response is
// read and handed on as it arrives. There is no goroutine for a connection and none for a request without a body: the
// handler's own goroutine writes and reads. A body that does not come whole with the first read gets one, so that a
// response may begin before the request has ended.
package proxy
