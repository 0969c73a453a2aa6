// Package conns is the one engine of connections of a worker: it tracks them from their accept to their close, bounds
// how long they wait, gives those that are idle to other workers, closes some when there is no room, and cuts what is
// left at the drain deadline. What is spoken on them it does not know: package worker has a Process for that, package
// httpworker net/http.
//
// # A connection's walk
//
// The caller is in brackets where it is not the step before.
//
//	accept    Engine.Add [the accept loop]: fresh, or with TLS handshaking until Conn.Handshake
//	read      Conn.Read [net/http, a Process] → next: what to do → the socket → read → Protocol.Take: receiving
//	answer    Conn.Complete [when net/http has a header; else the first byte]: active → Conn.Write
//	idle      Conn.Idle: idle → Conn.Read → next → nextWaiting: how long
//	drain     Engine.Run → drain → move → Conn.wake: its Read times out → nextWaiting
//	hand-over Conn.offer: transferring → give → the Handover … the answer: moved → Read returns ErrMoved → Close
//	arrival   [the Handover] Engine.take: parked → the pool … a message → wakeParked → Config.Serve → Add
//	evict     Engine.Evict [a listener without room] → Conn.evict: its Read times out → nextWaiting: the end
//	cut       Engine.Run → drain → cut → Conn.Abort: closed
//	close     Conn.Linger: lingering, until the client closes as well → Conn.Close: closed
//
// The phases and what leads from one to the other are a table, in phase.go. Nobody but its own goroutine decides
// about a connection that waits: the others change what it is to do, and wake it by a read deadline that has passed.
//
// # Locks
//
// A Conn has a lock for its phase and its deadlines, an Engine has one for the set of connections. Neither is held
// while anything is awaited, nor the Engine's while a Conn's is taken.
package conns
