package httpworker

import (
	"context"
	"log/slog"
	"strings"
)

// errorLog gives what net/http has to say the level that it has for an operator.
type errorLog struct{ to *slog.Logger }

// Write takes a line.
func (l errorLog) Write(line []byte) (int, error) {
	text := strings.TrimSuffix(string(line), "\n")
	l.to.Log(context.Background(), levelOf(text), text)
	return len(line), nil
}

// levelOf is Error for a panic, and Warn for another mistake of a handler. Everything else any client can cause: that
// is for debugging.
func levelOf(text string) slog.Level {
	switch {
	case strings.Contains(text, ": panic serving "):
		return slog.LevelError
	case strings.HasPrefix(text, "http: ") && !strings.HasPrefix(text, "http: TLS "):
		return slog.LevelWarn
	}
	return slog.LevelDebug
}
