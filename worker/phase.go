package worker

// phase is how far a worker process has come.
type phase uint8

const (
	phaseStarting phase = iota // before READY
	phaseReady                 // before GO
	phaseServing
	phaseDraining
	phaseCancelled // told to drain before GO: it has accepted nothing
	phaseDone      // the process exits
	phases
)

// event is what moves a worker process on.
type event uint8

const (
	eventReady    event = iota // the Worker could serve
	eventGo                    // the generation is committed
	eventDrain                 // also when it comes again
	eventEOF                   // supervisor and master are gone
	eventReturned              // Serve has returned
	events
)

// next is the phase that follows on an event. End-of-file before GO means that the attempt has failed, and the process
// exits at once; after GO nobody else serves, and it drains.
var next = [phases][events]phase{
	phaseStarting:  {phaseReady, phaseServing, phaseCancelled, phaseDone, phaseDone},
	phaseReady:     {phaseReady, phaseServing, phaseCancelled, phaseDone, phaseDone},
	phaseServing:   {phaseServing, phaseServing, phaseDraining, phaseDraining, phaseDone},
	phaseDraining:  {phaseDraining, phaseDraining, phaseDraining, phaseDraining, phaseDone},
	phaseCancelled: {phaseCancelled, phaseDraining, phaseCancelled, phaseDone, phaseDone},
	phaseDone:      {phaseDone, phaseDone, phaseDone, phaseDone, phaseDone},
}

// String is the phase as [wire.Stats] has it.
func (p phase) String() string {
	switch p {
	case phaseStarting:
		return "starting"
	case phaseReady:
		return "ready"
	case phaseServing:
		return "serving"
	default:
		return "draining"
	}
}
