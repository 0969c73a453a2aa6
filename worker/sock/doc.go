// Package sock accepts on listening sockets that several processes share, so that each of them gets its part of what
// comes.
//
// A [Listener] is one of package net, and what it accepts are net's connections. Two things are different. A new
// connection wakes one of the processes that wait, the one that has waited longest; package net wakes all of them (see
// turn). And a process that has accepted more than another one lets that one go first (see [Balance]): else a burst
// would belong to the process that woke first, because one that is awake accepts faster than another one wakes.
package sock
