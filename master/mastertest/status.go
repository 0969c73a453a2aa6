package mastertest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"baton/master/internal/control"
	"baton/master/internal/status"
)

// Status is the answer to GET /status.
type Status struct{ status.Status }

// PIDs are the processes of the workers in a state, or of all if it is empty.
func (s Status) PIDs(state string) []int {
	var pids []int
	for _, w := range s.Workers {
		if state == "" || w.State == state {
			pids = append(pids, w.PID)
		}
	}
	return pids
}

// Settled says that nothing is going on: the workers of this generation serve, in all slots, and no others are left.
func (s Status) Settled() bool {
	for _, w := range s.Workers {
		if w.State != "serving" || w.Generation != s.Generation {
			return false
		}
	}
	return s.Generation > 0 && s.State == "serving" && len(s.Workers) == s.WorkersWanted
}

// AskStatus asks a control socket. An answer that is no status is a [NoStatusError].
func AskStatus(socket string) (st Status, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err = control.NewClient(socket).Ask(ctx, http.MethodGet, "/status", &st)
	var refused *control.Error
	var syntax *json.SyntaxError
	if errors.As(err, &refused) || errors.As(err, &syntax) {
		err = &NoStatusError{err}
	}
	return st, err
}

// NoStatusError is an answer that is no status.
type NoStatusError struct{ error }
