// Package promises has only tests: each promise of the README, on the built binary, under load.
//
// What puts load on the machine takes turns (see heavy), because a load generator that starves cannot tell a slow
// server from a lost connection. What mostly waits runs beside it.
package promises
