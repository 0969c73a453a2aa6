// Package plan thinks for the master: a view of the workers in, actions out. It starts, kills and asks nothing, knows
// no clock and no process, and so each of its decisions is a line of a table in its tests.
//
// [View] is what a generation that has taken over sees: its workers and those of the generations that still drain, each
// a [Worker], its limits, and what it remembers of failures. [View.Plan] returns one [Action] for each thing that must
// be done now, and when to ask again. The master applies the actions, notes in its workers that it has, and asks again
// after every event; a plan asks for nothing that is done already.
//
// A worker is Starting, is Ready when it has said so, Serving when it was told to accept, and Draining when it was told
// to drain. Each slot must have one of this generation; those of older generations, of slots beyond the last, and at a
// stop all of them must drain, and have a deadline then. Too many generations that drain are cut, the oldest first.
//
// Two memories slow down what does not help: [Crashes] delays the next worker of a slot whose workers crash, and
// [Recycling] delays replacing workers that are too old, too large or have answered enough requests. Package backoff
// says for how long.
//
// [View.Takers] and [View.Shares] say to which workers connections move when one drains, and when there are new slots.
package plan
