package control

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"

	"golang.org/x/sys/unix"
)

// peerKey is under which a connection's context has the peer's user.
type peerKey struct{}

// notePeer is a ConnContext.
func notePeer(ctx context.Context, c net.Conn) context.Context {
	uid, err := peerUID(c)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, uid)
}

// peerUID is who has connected, as the kernel saw it then.
func peerUID(c net.Conn) (uid int, err error) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("peer: a %T", c)
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); cerr != nil {
		return 0, cerr
	}
	if err != nil {
		return 0, fmt.Errorf("peer: %w", err)
	}
	return int(cred.Uid), nil
}

// ownerOnly refuses everybody but root and the user of this process, whatever the mode of the socket's file has become.
func ownerOnly(h http.Handler) http.Handler {
	own := os.Geteuid()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uid, known := r.Context().Value(peerKey{}).(int)
		if !known || uid != 0 && uid != own {
			http.Error(w, fmt.Sprintf("only root and user %d, who runs this, may use the control socket, and not user %d", own, uid), http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}
