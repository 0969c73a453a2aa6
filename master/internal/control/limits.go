package control

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
)

// What a client may cost. Only the owner can connect, but not everything that runs as the owner means well.
const (
	headerTime  = 10 * time.Second // to send a request
	headerBytes = 16 << 10
	maxIdle     = 64  // connections without a whole request; beyond it the oldest is closed
	maxWaiting  = 256 // requests that wait for their answer; beyond it the answer is 503
)

// share returns n, or less where the limit of open files is so low that clients could use it up.
func share(n int) int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return n
	}
	return max(1, int(min(uint64(n), limit.Cur/8)))
}

// limitRequests answers no more than maxWaiting requests at once. Their bodies are not read.
func limitRequests(h http.Handler) http.Handler {
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

// peerKey is the key under which a connection's context has its peer.
type peerKey struct{}

// withPeer is a ConnContext.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	cred, err := rawfd.Peer(c)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, cred)
}

// PeerOf returns the process that has connected, and its user, of a request's context; nil if it is not known.
func PeerOf(ctx context.Context) *unix.Ucred {
	cred, _ := ctx.Value(peerKey{}).(*unix.Ucred)
	return cred
}

// ownerOnly refuses everybody but root and the user of this process, whatever the mode of the socket's file has become.
func ownerOnly(h http.Handler) http.Handler {
	own := os.Geteuid()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer := PeerOf(r.Context())
		if peer == nil || peer.Uid != 0 && int(peer.Uid) != own {
			text := fmt.Sprintf("only root and user %d, who runs this, may use the control socket", own)
			if peer != nil {
				text += fmt.Sprintf(", and not user %d", peer.Uid)
			}
			http.Error(w, text, http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}
