package wire_test

import (
	"testing"

	"baton/worker/wire"
	"baton/worker/wire/wiretest"
)

// messages are all that can be said.
var messages = []wire.Message{
	&wire.Setup{}, &wire.Ready{}, &wire.Go{}, &wire.Retire{}, &wire.Drain{}, &wire.StatsRequest{}, &wire.AddSocket{},
	&wire.RemoveSocket{},
	&wire.Listening{}, &wire.Sockets{}, &wire.Stats{}, &wire.Bye{}, &wire.LogFile{}, &wire.Tickets{}, &wire.Takes{},
	&wire.Takers{},
	&wire.Share{}, &wire.Offer{}, &wire.Handover{}, &wire.Ack{}, &wire.Withdrawn{},
}

func TestMessages(t *testing.T) {
	t.Parallel()
	wiretest.Check(t, messages)
}

// note is a message of these tests.
type note struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`
}

func (note) Kind() string { return "note" }
