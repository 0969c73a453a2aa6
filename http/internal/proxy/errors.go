package proxy

import (
	"context"
	"errors"
	"net"
)

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// clientError is that the client does not take the response.
type clientError struct{ error }

// Unwrap is for package errors.
func (e *clientError) Unwrap() error { return e.error }
