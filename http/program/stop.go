package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// groupPause is how often a process group is looked at whose leader has exited: there is no event for its end.
const groupPause = 10 * time.Millisecond

// outputGrace is how long the output of an instance that has exited may be held open by a process that it has left
// behind.
const outputGrace = 100 * time.Millisecond

// Stop ends the instance: its group gets the stop signal, and SIGKILL when ctx ends. It returns when none of the
// group is left. killed reports whether that took a SIGKILL.
func (i *Instance) Stop(ctx context.Context) (killed bool) {
	i.signal(i.program.stopSignal())
	select {
	case <-i.exited:
	case <-ctx.Done():
	}
	for !i.groupIsGone() {
		select {
		case <-ctx.Done():
			i.signal(syscall.SIGKILL)
			<-i.exited
			killed = true
		default:
		}
		time.Sleep(groupPause)
	}
	<-i.exited
	i.drainOutput()
	i.addr.release()
	return killed
}

// Kill ends the instance at once, and returns when it has gone.
func (i *Instance) Kill() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	i.Stop(ctx)
}

func (i *Instance) signal(sig syscall.Signal) { _ = unix.Kill(-i.PID(), sig) }

// groupIsGone reports whether no process of the group is left, but for those that wait for somebody else to reap them.
func (i *Instance) groupIsGone() bool {
	return errors.Is(unix.Kill(-i.PID(), 0), unix.ESRCH) || !slices.ContainsFunc(group(i.PID()), isRunning)
}

// isRunning reports whether a process has not exited.
func isRunning(pid int) bool {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// the name before it may contain anything
	_, state, _ := strings.Cut(string(b[bytes.LastIndexByte(b, ')')+1:]), " ")
	return state != "" && state[0] != 'Z' && state[0] != 'X'
}

// drainOutput waits for the last lines.
func (i *Instance) drainOutput() {
	read := make(chan struct{})
	go func() {
		i.output.Wait()
		close(read)
	}()
	timer := time.NewTimer(outputGrace)
	defer timer.Stop()
	select {
	case <-read:
	case <-timer.C:
	}
	if i.program.Raw {
		own["stdout"]().Flush(outputGrace)
		own["stderr"]().Flush(outputGrace)
	}
}

func signalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return s.String()
}
