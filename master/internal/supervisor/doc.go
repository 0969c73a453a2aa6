// Package supervisor is the process that the user started. Its PID never changes. It parses no configuration and
// serves no client; it is there so that everybody else can be replaced.
//
// It starts the first master, turns signals into messages to the current one, reaps whatever dies, keeps every
// descriptor that must outlive a master (the registry), decides the moment of a takeover (COMMIT), and starts a master
// again that crashed.
//
// One goroutine owns all of it (see [supervisor.loop]); others read a socket or a signal and send one event. It never
// waits for a master, and the only signal that it sends to masters and workers is KILL.
//
// # Signals
//
//	HUP, USR2  new generation: config and binary as they are on disk now
//	INT, TERM  stop everything: drain up to stop_timeout, then kill; a second one kills now (see isSecond)
//	QUIT       stop everything, but drain up to drain_timeout
//	TTIN, TTOU one worker more, one less
//	USR1       reopen the log file
//
// A HUP that comes because the terminal was closed stops everything.
//
// What comes in the middle of a reload holds afterwards. A resize is held back and given to whoever is the master
// then, the log is opened anew by both.
//
// # The control socket
//
// The supervisor alone answers on it, always: before anything serves, while there is no master, and while one has
// stopped. What only a master can do or knows it is asked for as a message, and has seconds to answer (see
// [supervisor.patience]). Everybody who waits is a [question], which is looked at after every event.
//
// # systemd
//
// The supervisor alone speaks with systemd, as a service of Type=notify-reload: see [systemd]. It takes the sockets of
// a socket unit (see [EntryActivated]), and gives its own to systemd's store where there is one (see [fdstore]). What
// systemd has put into the environment for that reaches no other process.
//
// # Other people's processes
//
// Orphans from below come to the supervisor, and as PID 1 of a container it gets all that there are. It reaps them.
// When everything stops and only they are left, they get TERM, and KILL a second later.
//
// # Following
//
// When the executable of the last COMMIT is another file than the supervisor's own, the supervisor executes it
// (follow.go): at rest, under the same PID, after a child of that binary has understood its state (state.go). A binary
// that does not understand is not followed; status says so, and everything goes on. A signal that comes while it
// executes is obeyed afterwards; only TERM, INT and QUIT, in those few milliseconds, end the supervisor, and with it
// everything, gracefully, with the exit code of a signal (see holdSignals).
package supervisor
