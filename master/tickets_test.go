package master

import (
	"bytes"
	"testing"
	"time"
)

// TestTicketKeysRotate: a new key a day, the newest first, and none is dropped while a ticket of it may come.
func TestTicketKeysRotate(t *testing.T) {
	var keys ticketKeys
	now := time.Unix(1_000_000_000, 0)
	if !keys.rotate(now) || len(keys) != 1 {
		t.Fatalf("no first key: %d", len(keys))
	}
	first := keys[0].Key
	if keys.rotate(now.Add(ticketRotation - time.Second)) {
		t.Error("a new key before its time")
	}
	for day := 1; day <= 20; day++ {
		at := now.Add(time.Duration(day) * ticketRotation)
		before := keys[0].Key
		if !keys.rotate(at) || bytes.Equal(keys[0].Key, before) || !bytes.Equal(keys[1].Key, before) {
			t.Fatalf("day %d: the new key is not the first", day)
		}
		if due := keys.due(at); due != ticketRotation {
			t.Errorf("day %d: the next key is due in %v", day, due)
		}
		kept := bytes.Equal(keys[len(keys)-1].Key, first)
		if want := day <= 7; kept != want {
			t.Errorf("day %d: the first key is there: %v, want %v", day, kept, want)
		}
	}
	if len(keys) != 8 {
		t.Errorf("%d keys, want 8", len(keys))
	}
	if due := keys.due(now); due != ticketRotation {
		t.Errorf("after the clock was set back the next key is due in %v", due)
	}
}
