// Package program runs somebody else's server as the child of a worker, and is its front.
//
// [Start] starts an instance of a [Program], [Instance.AwaitReady] waits until it answers, [Instance.Proxy] forwards
// requests to it, and [Instance.Stop] ends it. An instance has a process group of its own and nothing of baton's: no
// descriptor, and of the variables only its slot, its generation and the number of workers.
//
// Whoever dies, an instance does not stay. When its worker dies, the kernel sends it the stop signal; what it leaves
// behind comes to the worker, or to the supervisor when there is no worker, and is ended by them.
package program
