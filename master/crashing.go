package master

import (
	"slices"
	"time"

	"baton/master/internal/monotime"
)

// slotCrashed notes that the worker of a slot has crashed or could not be started, and says so when it is not the first
// time. When the slot is filled again is the plan's business.
func (m *master) slotCrashed(slot int, lived time.Duration, how string) {
	now := monotime.Now()
	loop, begins := m.crashes.Add(slot, m.want, lived, how, now)
	if !begins {
		return
	}
	m.log.Error("a slot crashes again and again", "generation", m.gen, "slot", slot, "crashes", loop.Crashes,
		"last", how, "next_start", loop.NextStart.Round(time.Millisecond))
	if loop.Young {
		m.log.Error("THE NEW GENERATION CRASHES", "generation", m.gen,
			"took_over", now.Sub(m.crashes.Committed).Round(time.Millisecond).String()+" ago",
			"crashes", loop.Total, "still_draining", m.snapshot(now).OlderGenerations())
	}
}

// crashReport is what status says of crashes, and all its warnings.
func (m *master) crashReport() (list []CrashingSlot, warnings []string) {
	list, crashes := m.crashes.Report(m.snapshot(monotime.Now()))
	return list, slices.Concat(m.warnings.list(), crashes)
}
