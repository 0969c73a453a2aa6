// Package listen holds a master's listening sockets, as raw descriptors: a poller would take part in the wake-up of
// every connection. A [Set] opens what a configuration names, gives it to the workers, grows, shrinks and closes. What
// it must not lose with the master is in a [Registry]. One goroutine owns a Set.
//
// A socket is bound in preparation and listens after COMMIT: one that listens takes its share of the connections at
// once, and closing it because the reload has failed would reset them. Where somebody else has taken the address in
// between, that listener alone is not served, and is tried again.
//
// With reuse_port each slot has a socket of its own, which the worker in that slot accepts on, in every generation.
// The kernel spreads new connections over all of them, so the set steers: a socket takes part when its worker serves,
// and no longer when its slot is to go. None is closed for a resize: handshakes that have begun end where they were,
// so other workers accept there as well, until the kernel has given up the last handshake and the queue is empty.
//
// addr.go and check.go decide, and ask nobody but the resolver; bind.go, unix.go and steer.go are the system calls; the
// other files are the Set.
package listen
