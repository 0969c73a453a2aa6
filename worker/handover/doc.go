// Package handover moves connections that are idle from a worker that drains to one that serves, of whatever generation,
// without their clients noticing: unread bytes stay in the kernel and travel with the socket.
//
// All workers of all generations share one queue, a socketpair that the masters pass on: whoever drains writes to it,
// whoever serves reads from it, and the kernel wakes whoever is free.
//
// The protocol has no state in which two processes read from a connection, and none in which nobody has it:
//
//	sender                                 receiver
//	stops reading the connection
//	sendmsg(connections, ack socket)
//	keeps its copies                       recvmsg
//	                                       send(ack: which it takes), before its first read
//	closes what was taken                  reads
//
// End-of-file on the ack socket before an ack means that the receiver is dead, or never had the message: then the
// connections are the sender's as before. There is no timeout: a receiver that is only slow may have the message.
//
// Only connections of which no byte of a next request was read may be given. Package httpworker knows how to tell.
package handover
