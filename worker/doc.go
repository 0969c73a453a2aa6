// Package worker is the runtime of a worker process: its listeners, its readiness, and its graceful shutdown, which
// begins when a context ends.
//
// A process becomes a worker by being started by a master; [Spawned] says whether it was, and [Run] does the rest.
// Programs that call master.Main need neither.
//
// The life of a worker: it gets its [Env]; it prepares and says [Env.Ready]; GO comes, and its listeners begin to
// accept; the context ends, its listeners stop, it finishes what it has, and its process exits with code 0.
// End-of-file on the control socket means that all masters and the supervisor are dead: before GO the process exits at
// once, after it, it drains.
package worker
