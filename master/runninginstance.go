package master

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/control"
)

// identifyLimit is how long a process may take to say which baton it is.
const identifyLimit = 2 * time.Second

// runningInstance adds to the error of a control socket whose address is taken which process has it.
func runningInstance(path string, err error) error {
	if !errors.Is(err, unix.EADDRINUSE) {
		return err
	}
	c := control.NewClient(path)
	c.Limit = identifyLimit
	id, idErr := c.Identify(context.Background())
	var silent *control.SilentError
	switch {
	case idErr == nil:
		return fmt.Errorf("%w: baton is running already, supervisor PID %d", err, id.SupervisorPID)
	case errors.As(idErr, &silent):
		return fmt.Errorf("%w: %w", err, silent)
	}
	return err
}
