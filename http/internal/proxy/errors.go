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

// reason is the innermost cause: the addresses around it are not for strangers.
func reason(err error) string {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return "the upstream's name is not known"
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
