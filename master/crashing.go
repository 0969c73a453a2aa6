package master

import (
	"slices"
	"time"

	"baton/master/internal/monotime"
)

// slotCrashed notes that the worker of a slot has crashed or could not be started, and says so when it is not the first
// time. When the slot is filled again is decide's business.
func (m *master) slotCrashed(slot int, lived time.Duration, how string) {
	now := monotime.Now()
	wasYoung := m.crashes.young
	if !m.crashes.died(slot, m.want, lived, how, now) {
		return
	}
	s := m.crashes.slots[slot]
	m.log.Error("a slot crashes again and again", "generation", m.gen, "slot", slot, "crashes", s.count, "last", how,
		"next_start", time.Duration(max(0, s.notBefore-now)).Round(time.Millisecond))
	if m.crashes.young && !wasYoung {
		m.log.Error("THE NEW GENERATION CRASHES", "generation", m.gen, "took_over", ago(now-m.crashes.committed),
			"crashes", m.crashes.total(), "still_draining", m.olderGenerations())
	}
}

func ago(m monotime.Time) string { return time.Duration(m).Round(time.Millisecond).String() + " ago" }

// checkCrashes ends the trouble of slots whose worker lives, and returns when to look again.
func (m *master) checkCrashes(next monotime.Time) monotime.Time {
	if len(m.crashes.slots) == 0 || !m.committed || m.stopping {
		return next
	}
	alive := map[int]monotime.Time{}
	for _, p := range m.procs {
		if p.gen == m.gen && p.state == procServing {
			alive[p.slot] = p.started
		}
	}
	healed, at := m.crashes.heal(m.want, alive, monotime.Now())
	for _, slot := range healed {
		m.log.Info("a slot that had crashed again and again serves", "generation", m.gen, "slot", slot)
	}
	if next == 0 || at != 0 && at < next {
		next = at
	}
	return next
}

// crashReport is what status says of crashes, and all its warnings.
func (m *master) crashReport() (list []CrashingSlot, warnings []string) {
	taken := map[int]bool{}
	for _, p := range m.procs {
		if p.gen == m.gen && p.state != procDraining {
			taken[p.slot] = true
		}
	}
	now := monotime.Now()
	list = m.crashes.report(taken, now)
	return list, slices.Concat(m.warnings.list(), m.crashes.warnings(m.gen, m.olderGenerations(), list, now))
}

// olderGenerations are those that still have workers, in order.
func (m *master) olderGenerations() []int {
	var gens []int
	for _, p := range m.procs {
		if p.gen < m.gen && !slices.Contains(gens, p.gen) {
			gens = append(gens, p.gen)
		}
	}
	slices.Sort(gens)
	return gens
}
