package mastertest

import (
	"io"
	"os"
	"strings"
	"sync"
)

// logBook is what a tree of processes has written to its standard output and error. Its end is the leash: all who
// could write have gone.
type logBook struct {
	ended chan struct{}

	mu   sync.Mutex
	text strings.Builder
	more chan struct{} // closed at the next write
}

// newLogBook reads until the last writer has gone.
func newLogBook(r io.ReadCloser) *logBook {
	l := &logBook{ended: make(chan struct{}), more: make(chan struct{})}
	go func() {
		defer close(l.ended)
		defer r.Close()
		buf := make([]byte, 32<<10)
		for {
			n, err := r.Read(buf)
			l.write(buf[:n])
			if err != nil { // end-of-file of a pipe, EIO of a terminal
				return
			}
		}
	}()
	return l
}

func (l *logBook) write(b []byte) {
	if os.Getenv("TAIL") != "" {
		os.Stderr.Write(b)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	close(l.more)
	l.more = make(chan struct{})
}

// read returns everything so far, and what closes when there is more.
func (l *logBook) read() (string, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String(), l.more
}

// complaints are the lines that no test may cause.
func (l *logBook) complaints() []string {
	text, _ := l.read()
	var found []string
	for line := range strings.Lines(text) {
		for _, bad := range []string{"DATA RACE", "BUG:", "panic:", "fatal error:"} {
			if strings.Contains(line, bad) {
				found = append(found, strings.TrimSpace(line))
				break
			}
		}
	}
	return found
}
