package mastertest

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// openTerminal makes a pair: the side of the person who types, and the terminal.
func openTerminal() (ptmx, tty *os.File, err error) {
	ptmx, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	n := 0
	conn, err := ptmx.SyscallConn() // Fd would make reads uninterruptible
	if err == nil {
		ctl := conn.Control(func(fd uintptr) {
			if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
				n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
			}
		})
		if err == nil {
			err = ctl
		}
	}
	if err == nil {
		tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		ptmx.Close()
		return nil, nil, err
	}
	return ptmx, tty, nil
}

// CtrlC is what that key sends.
const CtrlC = "\x03"

// Type types on the terminal.
func (b *Baton) Type(keys string) {
	b.tb.Helper()
	if keys == CtrlC {
		b.awaitSupervisor()
	}
	if _, err := b.ptmx.WriteString(keys); err != nil {
		b.tb.Fatal(err)
	}
}

// HangUp closes the terminal, as a window is closed.
func (b *Baton) HangUp() {
	b.tb.Helper()
	if err := b.ptmx.Close(); err != nil {
		b.tb.Fatal(err)
	}
}
