// Package supervisor is the process that the user started. Its PID never changes. It parses no configuration and serves
// no client; it is there so that everything else can be replaced.
//
// It starts the first master, turns signals into messages to the current one, reaps, keeps every descriptor that must
// outlive a master (the registry), decides the moment of a takeover (COMMIT), and restarts a master that crashed.
//
// One goroutine owns all of it, see [supervisor.loop]; others read a socket or a signal and send one event. It never
// waits for a master, and the only signal that it sends to masters and workers is KILL.
//
// # One HUP
//
// takeover.go has the table of the phases, and the five events that complete a takeover. In between is the work of the
// masters, see package master:
//
//	HUP                signals.go     onSignal > request
//	                   reload.go      startReload: sayReloading, Reload to the master
//	Hello              messages.go    onHello > register
//	                   takeover.go    admit, welcome: the successor gets the registry
//	Put                messages.go    onPut: staged
//	Commit             takeover.go    onCommit > commitSuccessor: registry, result, Superseded to the predecessor
//	Serving            messages.go    onServing: READY=1 to systemd
//	Leaving, or exit   takeover.go    onSuperseded, or onReaped > oldGone; complete: the successor gets the workers
//	a worker's exit    messages.go    onReaped: Exited to the master
//	at rest            reexecution.go try: the dry run, and half a second after COMMIT the execve
//
// A reload that fails ends in reload.go: onUpgradeFailed, attemptTimeout or loseAttempt > failAttempt.
//
// # Signals
//
//	HUP, USR2  new generation: config and binary as they are on disk now
//	INT, TERM  stop everything: drain up to stop_timeout, then kill; a second one kills now (see isSecond)
//	QUIT       stop everything, but drain up to drain_timeout
//	TTIN, TTOU one worker more, one less
//	USR1       reopen the log file
//
// A HUP that comes because the terminal was closed stops everything. What comes in the middle of a reload holds
// afterwards, see [heldBack].
//
// # The control socket
//
// The supervisor alone answers on it, always: before anything serves, while there is no master, and while one has
// stopped. What only a master can do or knows it is asked for as a message, and has seconds to answer (see
// [front.patience]). Every client that waits is a [question], which is looked at after every event.
//
// # Orphans
//
// Orphans from below come to the supervisor, and as PID 1 of a container it gets all that there are. It reaps them.
// When everything stops and only they are left, they get TERM, and KILL a second later.
//
// # Re-exec
//
// When the executable of the last COMMIT is another file than the supervisor's own, the supervisor executes it: at
// rest, under the same PID, after a child of that binary has understood its state (state.go). A binary that does not
// understand is refused; status says so, and everything goes on. A signal that comes meanwhile is obeyed afterwards;
// only TERM, INT and QUIT, in those few milliseconds, end the supervisor, and with it everything, gracefully, with the
// exit code of a signal (see holdSignals).
package supervisor
