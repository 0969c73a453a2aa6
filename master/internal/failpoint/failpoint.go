// Package failpoint names moments of a takeover at which a test can hold or kill a process. In a normal build it does
// nothing; with the build tag batonsteps [Hit] obeys the test.
package failpoint

// A Point is a moment in the life of a starting master, of a supervisor, or of a worker.
type Point string

// The points of a takeover, in their order.
const (
	Started          Point = "started"           // the process runs
	Welcomed         Point = "welcomed"          // the supervisor has given it the registry
	Loaded           Point = "loaded"            // the config is read
	Bound            Point = "bound"             // new sockets are bound
	Spawned          Point = "spawned"           // the workers are started
	Ready            Point = "ready"             // the workers are ready; nothing has happened yet
	Committed        Point = "committed"         // it is the master
	Granted          Point = "granted"           // its workers have GO
	Flipped          Point = "flipped"           // the predecessor has been told
	TakeoverComplete Point = "takeover complete" // the predecessor is gone, its workers are told to drain
)

// The points of a supervisor that executes a new binary.
const (
	Checking    Point = "checking"    // the dry run has read the state, and has not said so
	Reexecuting Point = "reexecuting" // signals are held, the next thing is execve
	Reexecuted  Point = "reexecuted"  // the new binary has the state, and has not reaped yet
)

// Forked is the point at which a worker was started, by any master, and nobody knows of it yet.
const Forked Point = "forked"
