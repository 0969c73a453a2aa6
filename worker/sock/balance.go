package sock

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// window is the time in which processes compare how many connections they have accepted: what came before is of no
// burst.
const window = 100 * time.Millisecond

// A process that has accepted n connections in a window may have leadLeast + n/leadShare more than the others in the
// mean. So small bursts are even to one or two connections, and a process that accepts all the time hardly ever waits.
const (
	leadLeast = 1
	leadShare = 8
)

// A process that is ahead waits for the others in pauses, of which each is half as long again as the one before: in
// sum 23 ms. That they are counted, and not the time, makes no difference but on a busy machine, where all come late.
// A process that has not accepted by then is busy, full or dead. Nobody waits for it in this window and the next one,
// nor later before it accepts, or absentWindows have passed.
const (
	firstPause    = 200 * time.Microsecond
	pauses        = 10
	absentWindows = 10
)

// A Balance is memory in which processes that share listening sockets see how many connections the others have
// accepted.
//
// It is an array of 8-byte words. The first one is how many of the others are in use. Each of these is written by one
// process: in the upper half the number of a window, in the lower half how many connections it has accepted in it. 0 is
// nobody.
type Balance struct {
	used  *atomic.Uint64
	words []atomic.Uint64
	mine  int

	mu     sync.Mutex
	wrote  uint64          // its word
	left   bool            // it takes part no more
	absent map[int]absence // processes that it has waited for in vain
}

// absence is what a process had written when it was waited for in vain, and in which window that was.
type absence struct {
	word   uint64
	window uint32
}

// holds reports whether the process is still absent, in window w.
func (a absence) holds(word uint64, w uint32) bool {
	ago := w - a.window // huge if the clock went back
	return ago <= 1 || word == a.word && ago < absentWindows
}

// NewBalance makes the memory file of a Balance in which n processes take part.
func NewBalance(n int) (fd int, err error) {
	fd, err = unix.MemfdCreate("balance", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, fmt.Errorf("balance: %w", err)
	}
	err = unix.Ftruncate(fd, sizeFor(n))
	if err == nil { // or one process could pull it from under the others
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("balance: %w", err)
	}
	return fd, nil
}

func sizeFor(n int) int64 { return int64(n+1) * 8 }

// OpenBalance takes part in a Balance as the mine-th process. fd is its memory file, which stays the caller's.
func OpenBalance(fd, mine int) (*Balance, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("balance: %w", err)
	}
	if mine < 0 || sizeFor(mine+1) > st.Size {
		return nil, fmt.Errorf("balance: no room for process %d in %d bytes", mine, st.Size)
	}
	b, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("balance: %w", err)
	}
	//nolint:gosec // other processes have no types
	words := unsafe.Slice((*atomic.Uint64)(unsafe.Pointer(&b[0])), len(b)/8)
	return &Balance{used: &words[0], words: words[1:], mine: mine, absent: map[int]absence{}}, nil
}

// join says that this process accepts from now on, so that others wait for it.
func (b *Balance) join() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.write(word(0, uint32(os.Getpid()))) // in no window, and nobody else's
	for n := b.used.Load(); n <= uint64(b.mine) && !b.used.CompareAndSwap(n, uint64(b.mine)+1); {
		n = b.used.Load()
	}
}

// Leave takes part no more: nobody waits for this process. Another one may have its word already.
func (b *Balance) Leave() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = true
	b.words[b.mine].CompareAndSwap(b.wrote, 0)
}

// took counts a connection in window w.
func (b *Balance) took(w uint32) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left {
		return
	}
	b.write(word(w, countIn(b.wrote, w)+1))
}

// yield lets those go first that have accepted less. They have a first pause to come even if nothing waits: they may
// have been woken for what this process has accepted, and what comes next is theirs.
func (b *Balance) yield(waiting func() bool, pause func(time.Duration)) {
	if b == nil {
		return
	}
	behind := b.behind(currentWindow())
	for i, d := 0, firstPause; len(behind) > 0; i, d = i+1, d+d/2 {
		if i == pauses {
			b.giveUp(currentWindow(), behind)
			return
		}
		pause(d)
		if !waiting() {
			return
		}
		behind = b.behind(currentWindow())
	}
}

// behind are those that it is the turn of, with their words: if this process has accepted more in window w than the
// others in the mean, and more than its lead, those that have accepted less by that lead.
func (b *Balance) behind(w uint32) map[int]uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	mine := countIn(b.wrote, w)
	lead := leadLeast + mine/leadShare
	if mine < lead || b.left {
		return nil
	}
	others, sum := uint32(0), uint32(0)
	var behind map[int]uint64 // made when somebody is, for this is looked at before each accept
	for i := range min(int(b.used.Load()), len(b.words)) {
		v := b.words[i].Load()
		gone, ok := b.absent[i]
		if v == 0 || i == b.mine || ok && gone.holds(v, w) {
			continue
		}
		n := countIn(v, w)
		others, sum = others+1, sum+n
		if n+lead > mine {
			continue
		}
		if behind == nil {
			behind = map[int]uint64{}
		}
		behind[i] = v
	}
	if (mine-lead)*others < sum {
		return nil
	}
	return behind
}

// write is called with the lock held.
func (b *Balance) write(v uint64) {
	b.wrote = v
	b.words[b.mine].Store(v)
}

// giveUp has nobody wait for processes that are behind in window w, for a while.
func (b *Balance) giveUp(w uint32, behind map[int]uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, v := range behind {
		b.absent[i] = absence{v, w}
	}
}

// currentWindow is the same in all processes. The clock may jump, which is one burst that is less even.
func currentWindow() uint32 { return uint32(time.Now().UnixNano() / int64(window)) }

func word(window, count uint32) uint64 { return uint64(window)<<32 | uint64(count) }

func countIn(v uint64, window uint32) uint32 {
	if uint32(v>>32) != window {
		return 0
	}
	return uint32(v)
}
