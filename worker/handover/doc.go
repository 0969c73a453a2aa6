// Package handover moves connections that are idle from a worker that drains to those that serve, of whatever
// generation, without their clients noticing: unread bytes stay in the kernel and travel with the socket.
//
// Every worker that takes connections has an inbox, a socketpair whose reading end is in no other process: what lies in
// it ends with its only reader, or when that one stops taking. The master passes the other end on: it tells a worker
// that drains who takes the connections of which listeners (see wire.Takes, wire.Takers), before it says Drain and
// whenever that changes. Nothing is offered that nobody takes. The sender gives each connection to the taker that has
// had the fewest of it, so all of them get the same, however many or few there are.
//
// # Who owns a connection
//
// An offer is a parcel: a box, which is a socket whose queue has one message with up to 200 connections, and one end
// of a socketpair, the ack socket. The sender has the other end, and keeps its copies of the connections and of the
// box. At every moment a connection has one owner, who alone may read, write and shut it down. The ownership changes
// with one act of one process, in the kernel, under one lock: sending the ack. To take an offer back the sender writes
// "withdrawn" into the ack socket, shuts its receiving side, after which no ack can be sent, empties the box, and then
// looks whether an ack had been sent. So there is no moment in which an ack is under way, and no third state.
//
//	state of an offer   event                      owner     what follows
//	written, not read   receiver reads it          sender    receiver chooses, sends the ack
//	                    receiver dies, or stops    sender    end-of-file: sender offers it to another
//	                     taking
//	                    receiver is stopped, slow  sender    after a second the sender withdraws, tries another, once
//	                    sender dies                receiver  when it reads: the ack fails, end-of-file: takes it all
//	                    sender is stopped, slow    receiver  when it reads: sends the ack, takes
//	read, no ack        ack is sent                receiver  receiver serves what it said; sender keeps the rest
//	                    ack fails, sender lives    sender    receiver lets go; end-of-file: sender offers it again
//	                    receiver dies, is stopped  sender    as in the first state
//	                    sender dies, is stopped    receiver  as in the first state
//	ack sent            sender reads it            receiver  sender closes its copies without another word
//	                    receiver dies              nobody    it was the receiver's, as if it had accepted it: closed
//	                    receiver is stopped        receiver  silent, as all that a stopped worker has (hang_timeout)
//	                    sender dies, is stopped    receiver  nothing: its copies are of no use to anybody
//	"withdrawn" is      ack is sent all the same   receiver  sender finds it after the shutdown, closes its copies
//	 written, not yet   sender dies                receiver  if it has sent an ack before; else nobody: closed
//	 shut               sender is stopped          receiver  if it sends an ack; else the sender, when it goes on
//	withdrawn           receiver reads it, now or  sender    the box is empty, or the ack fails and "withdrawn" is
//	                     at any time                          there: receiver drops it
//	                    sender dies                nobody    it was the sender's: closed; receiver drops it, as above
//
// Every wait has an end. An offer waits for a second, for one more if another taker is tried, and then the connection
// is its sender's for good, who goes on as if it had never been offered. A taker that has let an offer wait so long is
// offered nothing more. In the inbox of a worker that is stopped only empty boxes stay: a connection that is closed
// later is closed for its client. A worker that is stopped after its ack has taken the connections with everything
// else that it has, and nobody can have them back; hang_timeout, which is off by default, is what bounds that.
//
// Only connections of which no byte of a next request was read may be given. The giver knows how to tell.
package handover
