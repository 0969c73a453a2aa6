package control

import (
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What a client may cost. Only the owner can connect, but not everything that runs as the owner means well.
const (
	headerTime  = 10 * time.Second // to send a request
	headerBytes = 16 << 10
	maxSilent   = 64  // connections without a whole request; beyond it the oldest is closed
	maxWaiting  = 256 // requests that wait for their answer; beyond it there is none
)

// share is n, or less where the limit of open files is so low that clients could use it up: the server has better things to
// open.
func share(n int) int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return n
	}
	return max(1, int(min(uint64(n), limit.Cur/8)))
}

// silent are the connections that have not said yet what they want, the oldest first.
type silent struct {
	mu  sync.Mutex
	all []net.Conn
}

func (s *silent) add(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, c)
	if len(s.all) > share(maxSilent) {
		_ = s.all[0].Close() // net/http notices
		s.all = slices.Delete(s.all, 0, 1)
	}
}

func (s *silent) remove(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.all, c); i >= 0 {
		s.all = slices.Delete(s.all, i, i+1)
	}
}

// few answers no more than maxWaiting requests at once. Their bodies are not read.
func few(h http.Handler) http.Handler {
	waiting := make(chan struct{}, share(maxWaiting))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case waiting <- struct{}{}:
			defer func() { <-waiting }()
			h.ServeHTTP(w, r)
		default:
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too many requests wait for an answer", http.StatusServiceUnavailable)
		}
	})
}
