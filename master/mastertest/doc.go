// Package mastertest drives the real binary in tests, the way its users do: by signals, over HTTP, through the control
// socket and with the binary's own commands. It looks at nothing inside: of baton it imports only what the control
// socket says.
//
// A test package calls [Main] in its TestMain, and each test starts its own [Baton] in a directory of its own:
//
//	b := mastertest.Start(t, mastertest.Options{Config: "workers = 2\n[[listen]]\naddress = \"127.0.0.1:…\"\n…"})
//	b.Signal(unix.SIGHUP)
//	b.AwaitGeneration(2)
//
// Nobody is left behind: when a test ends, the process that it started is stopped, and the test fails if then a
// process of the tree lives, the control socket lies there, a port cannot be bound, or the log speaks of a data race,
// a panic or a BUG. How a process of the tree is known is told at [Baton.Tree].
//
// Tests wait for events. Where the outside offers none, the Await functions ask again after a few milliseconds until
// their deadline; that is the only polling there is.
package mastertest
