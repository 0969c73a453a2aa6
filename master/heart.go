package master

import (
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/master/internal/monotime"
	"baton/master/internal/plan"
)

// With hang_timeout every worker has a heartbeat in a memory file: 8 bytes that change four times in that time. The file
// is in the supervisor's registry, one for each generation, and where in it the worker's bytes are is in its record, so that
// whoever adopts the worker hears it as well. A worker is watched from GO to its end, also while it drains, and by the
// timeout of its own generation.
//
// The master looks four times in a hang_timeout. If it comes too late for a look it did not run itself: then the machine
// was suspended, or all of us were stopped, and every worker gets a full timeout from now on.

// entryHeart is the registry's entry of a generation's memory file: heart/<generation>.
const entryHeart = "heart/"

const cell = 8 // bytes

// openHeart makes the memory file of this generation, or takes it when this is a master's restart.
func (m *master) openHeart() error {
	if m.cfg.HangTimeout <= 0 {
		return nil
	}
	name := entryHeart + strconv.Itoa(m.gen)
	if it, ok := m.claim(name); ok {
		m.hearts[m.gen] = it.fd
		return nil
	}
	fd, err := unix.MemfdCreate("heart", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	m.hearts[m.gen] = fd
	m.store(name, "", fd)
	return nil
}

// assignHeartbeat chooses the bytes of a new worker in its generation's file.
func (m *master) assignHeartbeat(p *proc) {
	if m.cfg.HangTimeout <= 0 {
		return
	}
	used := map[int64]bool{}
	for _, o := range m.procs {
		used[o.record.Heart] = used[o.record.Heart] || o.Generation == p.Generation && o.record.HangTimeout > 0
	}
	for used[p.record.Heart] {
		p.record.Heart += cell
	}
	p.record.HangTimeout = int64(m.cfg.HangTimeout)
	p.HangTimeout = m.cfg.HangTimeout
}

// findHeartbeat finds the bytes of a worker that is adopted.
func (m *master) findHeartbeat(p *proc) {
	if p.record.HangTimeout == 0 {
		return
	}
	if _, ok := m.hearts[p.Generation]; !ok {
		it, ok := m.claim(entryHeart + strconv.Itoa(p.Generation))
		if !ok || it.fd < 0 {
			m.log.Error("master: a worker's heartbeat is not in the store", "generation", p.Generation, "slot", p.Slot, "pid", p.PID)
			return
		}
		m.hearts[p.Generation] = it.fd
	}
	p.HangTimeout = time.Duration(p.record.HangTimeout)
}

// dropHearts closes the files of generations that are gone.
func (m *master) dropHearts() {
	if !m.phase.isAlone() {
		return
	}
	live := map[int]bool{m.gen: true}
	for _, p := range m.procs {
		live[p.Generation] = true
	}
	for name := range m.inherited {
		if gen, err := strconv.Atoi(strings.TrimPrefix(name, entryHeart)); err == nil && strings.HasPrefix(name, entryHeart) && !live[gen] {
			m.discard(name)
			_ = m.supervisor.Post(message.Drop{Name: name})
		}
	}
	for gen, fd := range m.hearts {
		if !live[gen] {
			_ = unix.Close(fd)
			delete(m.hearts, gen)
			_ = m.supervisor.Post(message.Drop{Name: entryHeart + strconv.Itoa(gen)})
		}
	}
}

// checkHeartbeats looks at the heartbeats.
func (m *master) checkHeartbeats(now monotime.Time) {
	every := time.Duration(0)
	for _, p := range m.procs {
		if p.HangTimeout > 0 && (every == 0 || p.HangTimeout/4 < every) {
			every = max(p.HangTimeout/4, time.Millisecond)
		}
	}
	late := m.listenAt != 0 && now > m.listenAt.Add(every)
	if late && every > 0 {
		m.log.Warn("master: was not running, every worker gets a full hang_timeout", "for", time.Duration(now-m.listenAt).Round(time.Millisecond))
	}
	for _, p := range m.procs {
		beat := m.readBeat(p)
		if late || beat != p.beat || p.LastBeat == 0 || p.State == plan.Starting || p.State == plan.Ready {
			p.beat, p.LastBeat = beat, now
		}
	}
	if m.listenAt = 0; every > 0 {
		m.listenAt = now.Add(every)
	}
}

func (m *master) readBeat(p *proc) uint64 {
	if p.HangTimeout == 0 {
		return 0
	}
	var b [cell]byte
	_, _ = unix.Pread(m.hearts[p.Generation], b[:], p.record.Heart) // what was not written yet is 0
	return binary.NativeEndian.Uint64(b[:])
}
