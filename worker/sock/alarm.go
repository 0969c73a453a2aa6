package sock

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// An alarm sleeps to the microsecond: the runtime rounds up to a millisecond when there is nothing else to do.
type alarm struct {
	fd   int
	file *os.File // a timerfd; nil: not made yet
}

func (a *alarm) sleep(d time.Duration) {
	if a.file == nil && !a.open() {
		time.Sleep(d)
		return
	}
	var expirations [8]byte
	err := unix.TimerfdSettime(a.fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}, nil)
	if err == nil {
		_, _ = a.file.Read(expirations[:])
	}
}

func (a *alarm) open() bool {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return false
	}
	a.fd, a.file = fd, os.NewFile(uintptr(fd), "timer")
	return true
}
