// Package program runs somebody else's server as the child of a worker, and is its front.
//
// [Run] keeps an instance of a [Program] running, and the [Runner] that it returns forwards requests to it. Without one,
// [Start] starts an instance, [Instance.AwaitReady] waits until it answers, and [Instance.Stop] ends it. An instance has
// a process group of its own and nothing of baton's: no descriptor, and of the variables only its slot, its generation
// and the number of workers.
//
// Whoever dies, an instance does not stay. When its worker dies, the kernel sends it the stop signal; what is left of
// its group then comes to the supervisor, which ends it.
package program
