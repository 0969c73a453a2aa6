// Package upgrade starts the successor of a master and ends the master when the successor is ready. It is the only
// place that knows of tableflip, and of what tableflip needs of a process.
package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cloudflare/tableflip"
	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
)

const (
	noTimeout = 24 * time.Hour // the supervisor limits the time

	hasParent        = "TABLEFLIP_HAS_PARENT_7DIU3" // is set in the environment of a successor
	registrationName = "registration"
)

// A just installed binary is busy for a moment if a forked child still holds it open for writing, and tableflip notices
// the end of the predecessor a moment after the supervisor does. Neither sends an event.
const (
	maxTries   = 100
	retryPause = 2 * time.Millisecond
)

// Upgrader starts successors of this process, one at a time.
type Upgrader struct{ flip *tableflip.Upgrader }

// Chdir enters dir, if there is one, and reports whether it has. Successors start where this process was started, for
// tableflip has noted that directory before any function of this package can be called.
func Chdir(dir string) bool { return dir != "" && os.Chdir(dir) == nil }

// Open is called once. It returns the registration socket as well: the one descriptor that every master gives to its
// successor. A master that has no predecessor finds its number in the variable registrationEnv.
func Open(registrationEnv string) (u *Upgrader, registration int, err error) {
	passed, err := strconv.Atoi(os.Getenv(registrationEnv))
	if err != nil {
		passed = -1
		// The two pipes of tableflip, which it leaves open for whatever is executed.
		unix.CloseOnExec(3)
		unix.CloseOnExec(4)
	} else {
		_ = os.Unsetenv(hasParent) // of somebody else
	}
	flip, err := tableflip.New(tableflip.Options{UpgradeTimeout: noTimeout})
	if err != nil {
		return nil, -1, err
	}
	_ = os.Unsetenv(hasParent)
	_ = os.Unsetenv(registrationEnv)
	if registration, err = openRegistration(flip, passed); err != nil {
		return nil, -1, fmt.Errorf("registration socket: %w", err)
	}
	return &Upgrader{flip}, registration, nil
}

// openRegistration returns a duplicate of the registration socket that the supervisor has passed, or else the
// predecessor.
func openRegistration(flip *tableflip.Upgrader, passed int) (fd int, err error) {
	var f *os.File
	if passed >= 0 {
		unix.CloseOnExec(passed)
		f = os.NewFile(uintptr(passed), registrationName)
		err = flip.AddFile(registrationName, f)
	} else if f, err = flip.File(registrationName); f == nil && err == nil {
		return -1, errors.New("there is none; a master is not started by hand")
	}
	if err != nil {
		return -1, err
	}
	defer func() { _ = f.Close() }()
	return rawfd.Of(f) // f.Fd() would make the description blocking, which is shared
}

// Start executes args[0] with args as the successor. ps shows title behind the name, env is added to the environment.
// It returns nil when the successor is ready, and else why it is not when it has gone.
//
// Meanwhile os.Args and the environment are the successor's: nobody else may look at them.
func (u *Upgrader) Start(args []string, title string, env map[string]string) error {
	_ = u.flip.WaitForParent(context.Background())
	for name, value := range env {
		_ = os.Setenv(name, value)
	}
	own := os.Args
	os.Args = append([]string{args[0], title}, args[1:]...)
	defer func() { os.Args = own }()
	for tries := 0; ; tries++ {
		err := u.flip.Upgrade()
		switch {
		case err == nil:
			return nil
		case isTransient(err) && tries < maxTries:
			time.Sleep(retryPause)
		default:
			runtime.GC() // tableflip leaves two descriptors of a failed child to the garbage collector
			return err
		}
	}
}

// isTransient looks at the text, for tableflip wraps nothing.
func isTransient(err error) bool {
	text := err.Error()
	return strings.Contains(text, syscall.ETXTBSY.Error()) || strings.Contains(text, "parent hasn't exited") ||
		strings.Contains(text, "process is not ready yet")
}

// Ready lets the predecessor's Start return.
func (u *Upgrader) Ready() {
	_ = u.flip.Ready() // it fails when the predecessor is dead already: then there is nobody to tell
}
