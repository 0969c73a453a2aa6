// Package master makes a program a prefork server that changes its configuration, its binary and its size without
// losing a request. [Main] is the one line; [Run] is for programs with a configuration of their own.
//
// # Processes
//
//	supervisor             the process that the user started; package supervisor
//	 └─ master             this package: decides, holds the listening sockets, never accepts
//	     ├─ worker 0       package worker
//	     └─ worker 1
//
// A reload is a new master, the successor, that is started beside the running one. It inherits the sockets from the
// supervisor's registry, loads the configuration, starts its workers, and asks the supervisor for COMMIT when all of
// them are READY. Before COMMIT nothing has happened: whatever fails, the successor exits, with everything of it, and
// the old generation serves on. After COMMIT it is the master, whichever process dies: its workers get GO, the
// predecessor exits, and the predecessor's workers drain.
//
// # The takeover
//
// A master is in one phase; the constants of type phase say what each means. An event leads to another one, or nowhere.
// What the supervisor says is written as its message (package message); its own side of the conversation is the table
// of its takeover.go.
//
//	            preparing   asking      committed   leaving     current     stopping    orphaned
//	READY       asking      -           -           -           -           -           -
//	Committed   -           committed   -           -           -           -           -
//	Refused     failed      failed      -           -           -           -           -
//	Complete    -           -           current     stopping    -           -           -
//	Superseded  -           -           superseded  -           superseded  -           -
//	Stop        failed      failed      leaving     leaving     stopping    stopping    -
//	hung up     failed      failed      orphaned    orphaned    orphaned    orphaned    -
//	not ready   failed      -           -           -           -           -           -
//	trouble     failed      failed      -           -           -           -           -
//	no worker   -           -           -           -           -           stopped     stopped
//	request     -           -           committed   -           current     -           -
//
// A superseded master exits and leaves its workers alone, a stopped one when they have exited, a failed one with them.
//
// # HUP, step by step
//
//	supervisor   onSignal > request > startReload                        Reload to the master, G1
//	G1           onReload > Upgrader.Start (tableflip)                   starts the successor, G2
//	G2           runMaster > hello                                       Hello
//	supervisor   admit > welcome                                         Welcome, and the registry
//	G2           readWelcome > prepare: settled (Options.Load),          Preparing, Puts
//	             openFiles, openListeners, startWorker
//	workers      Ready                                                   READY
//	G2           onReady > checkReady > stage                            Commit
//	supervisor   onCommit > commitSuccessor                              Committed; Superseded to G1; the result
//	G2           onCommitted: listen, apply(Activate), Upgrader.Ready    GO; Serving
//	G1           end                                                     Leaving; exits
//	supervisor   complete                                                TakeoverComplete, and G1's workers
//	G2           onEnd > adoptAll > carryOut > drain                     Drain to G1's workers
//	old workers  hand over, finish, exit                                 Bye
//	G2           onBye, gone, tellOldest                                 Oldest: `reload --wait` is answered
//
// All of it comes by one way through a master: [master.loop] calls a handler of a message, which notes what it says,
// and then reconcile, which asks package plan what must be done and does it.
//
// # Where to look
//
//	takeover.go           the table, and what is done in each phase
//	master.go             the loop, the messages of the supervisor
//	prepare.go, loader.go from the configuration to workers that start
//	workers.go            the life of a worker; pool.go: all of them; takers.go: who takes whose connections
//	registry.go           what outlives this process
//	reload.go, resize.go  what the supervisor asks for; status.go: and what it wants to know
//	heartbeats.go         workers that hang
//	listen.go             the listening sockets, which package listen holds
//	files.go, logging.go  files that this program makes
//	system.go             what tests replace: processes, and conversations with them
//
// # Invariants
//
//   - One goroutine owns the state of a master ([master.loop]). Others wait for one thing and send it an event. What
//     must be done about the workers is decided by package plan, which touches nothing.
//   - A listening socket is made once, and closed when its address leaves the configuration; never to move traffic.
//   - A worker is started from the running master's own executable, and gets its configuration as bytes. No generation
//     is mixed.
//   - A worker of the running generation is replaced by one that is ready before it drains, one slot at a time; only
//     one that has hung is killed first.
//   - What must outlive a master is in the registry before anything relies on it.
package master
