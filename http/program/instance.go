package program

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"baton/http/internal/proxy"
)

// An Instance is one running copy of a Program.
//
// Threading: its methods may be called from any goroutine.
type Instance struct {
	program *Program
	at      Place
	log     *slog.Logger
	addr    *address
	cmd     *exec.Cmd
	tail    tail
	output  sync.WaitGroup

	exited chan struct{} // closed when the process that was started has exited
	state  *os.ProcessState
}

// Start executes a program. The instance is ready later, see [Instance.AwaitReady].
func Start(p *Program, at Place, log *slog.Logger) (*Instance, error) {
	fail := func(err error) (*Instance, error) {
		return nil, &ExitError{Program: p.Name, Slot: at.Slot, What: err.Error(), cause: err}
	}
	if len(p.Command) == 0 {
		return fail(errors.New("no command"))
	}
	if _, err := proxy.ParseTrusted(p.TrustedProxies); err != nil {
		return fail(fmt.Errorf("trusted proxies: %w", err))
	}
	newAddress := newPort
	if p.usesSocket() {
		newAddress = newSocket
	}
	addr, err := newAddress()
	if err != nil {
		return fail(err)
	}
	i := &Instance{program: p, at: at, log: log, addr: addr, exited: make(chan struct{})}
	if err := i.start(); err != nil {
		addr.release()
		return fail(err)
	}
	return i, nil
}

// start executes the command.
func (i *Instance) start() error {
	replace := strings.NewReplacer("{socket}", i.addr.name, "{port}", strconv.Itoa(i.addr.port),
		"{slot}", strconv.Itoa(i.at.Slot), "{generation}", strconv.Itoa(i.at.Generation))
	var args []string
	for _, a := range i.program.Command {
		args = append(args, replace.Replace(a))
	}
	i.cmd = exec.Command(args[0], args[1:]...)
	i.cmd.Dir = i.program.Dir
	i.cmd.Env = i.program.environment(i.at, i.addr.port, replace)
	i.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: i.program.stopSignal()}
	if i.program.Dir != "" {
		if err := unix.Access(i.program.Dir, unix.X_OK); err != nil { // else it is the command that seems to be missing
			return fmt.Errorf("chdir %s: %w", i.program.Dir, err)
		}
	}
	var read, write [2]*os.File
	for n := range read {
		var err error
		if read[n], write[n], err = os.Pipe(); err != nil {
			return err
		}
		defer func() { _ = write[n].Close() }() // the instance's end
	}
	i.cmd.Stdout, i.cmd.Stderr = write[0], write[1]
	started := make(chan error)
	go i.run(started)
	err := <-started
	for n, stream := range []string{"stdout", "stderr"} {
		i.output.Go(func() { i.follow(read[n], stream) })
	}
	return err
}

// run starts the process and waits for it, on a thread of its own: the kernel sends the signal of a parent's death when
// the thread that was the parent has exited.
func (i *Instance) run(started chan<- error) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
	err := i.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	_ = i.cmd.Wait()
	i.state = i.cmd.ProcessState
	close(i.exited)
}

// PID is that of the process that was started; it is the process group's number as well.
func (i *Instance) PID() int { return i.cmd.Process.Pid }

// Exited is closed when the process that was started has exited.
func (i *Instance) Exited() <-chan struct{} { return i.exited }

// An ExitError says that an instance could not be started, has exited, or was not ready in time.
type ExitError struct {
	Program string
	Slot    int
	What    string
	Lines   []string // the last ones of its output
	cause   error
}

// Error is what happened.
func (e *ExitError) Error() string {
	return fmt.Sprintf("program %s, slot %d: %s", e.Program, e.Slot, e.What)
}

// Unwrap is for package errors.
func (e *ExitError) Unwrap() error { return e.cause }

// Reason is the error as a reload that fails for it says it, with the instance's own lines below it.
func (e *ExitError) Reason() string {
	var b strings.Builder
	b.WriteString(e.Error())
	for _, l := range e.Lines {
		b.WriteString("\n  | " + l)
	}
	return b.String()
}

func (i *Instance) failed(what string, cause error) error {
	return &ExitError{i.program.Name, i.at.Slot, what, i.tail.last(), cause}
}

// how says how the process has exited, as "exited with status 1".
func (i *Instance) how() string {
	ws, ok := i.state.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		return "killed by " + signalName(ws.Signal())
	}
	return fmt.Sprintf("exited with status %d", i.state.ExitCode())
}
