// Package step names the steps of a takeover, so that a test can hold or kill a master at each of them. In a normal
// build it does nothing; with the build tag batonsteps see the other file.
package step

// A Step is a moment in the life of a starting master.
type Step string

// The steps, in their order.
const (
	Started   Step = "started"   // the process runs
	Welcomed  Step = "welcomed"  // the supervisor has given it the registry
	Loaded    Step = "loaded"    // the config is read
	Bound     Step = "bound"     // new sockets are bound
	Spawned   Step = "spawned"   // the workers are started
	Ready     Step = "ready"     // the workers are ready; nothing has happened yet
	Committed Step = "committed" // it is the master
	Granted   Step = "granted"   // its workers have GO
	Flipped   Step = "flipped"   // the predecessor has been told
	Alone     Step = "alone"     // the predecessor is gone, its workers are told to drain
)

// Moments of a supervisor that follows a new binary. They are not in All.
const (
	Checking  Step = "checking"  // the dry run has read the state, and has not said so
	Following Step = "following" // signals are held, the next thing is execve
	Followed  Step = "followed"  // the new binary has the state, and has not reaped yet
)

// Forked is none of them: a worker was started, by whoever is the master, and nobody knows of it yet.
const Forked Step = "forked"

// All lists them.
var All = []Step{Started, Welcomed, Loaded, Bound, Spawned, Ready, Committed, Granted, Flipped, Alone}

// BeforeCommit reports whether nothing has happened yet at s.
func (s Step) BeforeCommit() bool {
	for _, b := range All[:6] {
		if s == b {
			return true
		}
	}
	return false
}
