package message

// Slots is the number of slots, and the number that the config said when it was chosen. It is the data of an entry in
// the registry.
type Slots struct {
	Count  int `json:"count"`
	Config int `json:"config"`
}

// WorkerRecord is the data that goes with a worker's control socket in the registry: all that a master needs to adopt
// the worker.
type WorkerRecord struct {
	Generation int      `json:"generation"`
	Slot       int      `json:"slot"`
	Started    int64    `json:"started"`   // on the monotonic clock, in nanoseconds
	Listeners  []string `json:"listeners"` // the addresses that it accepts on, as Drain.Ends has them
	Draining   bool     `json:"draining,omitempty"`
	Deadline   int64    `json:"deadline,omitempty"` // of the drain, on the monotonic clock, in nanoseconds

	// Starting is set until the worker has said Ready, unless COMMIT says it for all.
	Starting bool `json:"starting,omitempty"`
	// Replaces is the PID of the worker in the same slot that drains when this one serves. 0: none, or it has exited.
	Replaces int `json:"replaces,omitempty"`

	// HangTimeout and Heart are those of Setup. The memory file is in the registry, one for a generation.
	HangTimeout int64 `json:"hang_timeout,omitempty"`
	Heart       int64 `json:"heart,omitempty"`
}
