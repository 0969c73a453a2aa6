// Package master makes a program a prefork server that changes its configuration, its binary and its size without losing
// a request. [Main] is the one line; [Run] is for programs with a configuration of their own.
//
// # Processes
//
//	supervisor                 the process that the user started; package supervisor
//	 └─ master             this package: decides, holds the listening sockets, never accepts
//	     ├─ worker 0       package worker
//	     └─ worker 1
//
// A reload is a new master, the successor, that is started beside the running one. It takes the sockets from the supervisor's
// store, loads the configuration, starts its workers, and asks the supervisor for COMMIT when all of them are ready. Before
// COMMIT nothing has happened: whatever fails, the successor goes, with everything of it, and the old generation serves on.
// After COMMIT it is the master, whoever dies: its workers get GO, the predecessor exits, and the predecessor's workers
// drain.
//
// # The takeover
//
// A master is in one phase; see the constants of type phase for what each means. An event leads to another one, or
// nowhere. What the supervisor says is written as its message; its own side of the conversation is in its takeover.go.
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
// A superseded master exits with its workers left alone, a stopped one when they have gone, and a failed one with them.
//
// # Invariants
//
//   - One goroutine owns the state of a master ([master.loop]). Others wait for one thing and send it an event. What
//     must be done about the workers is decided by package plan, which touches nothing.
//   - A listening socket is made once, and closed when its address leaves the configuration; never to move traffic.
//   - A worker is started from the running master's own executable, and gets its configuration as bytes. No generation is
//     mixed.
//   - A worker of the running generation is replaced by one that is ready before it drains, one slot at a time; only one
//     that has hung is killed first.
//   - What must outlive a master is in the supervisor's registry before anybody relies on it.
package master
