package control

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOwnerOnly(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	defer func() { _, _ = a.Close(), b.Close() }()
	for _, tt := range []struct {
		name string
		ctx  context.Context
		code int
	}{
		{"the owner", context.WithValue(t.Context(), peerKey{}, &unix.Ucred{Uid: uint32(os.Geteuid())}), 200},
		{"root", context.WithValue(t.Context(), peerKey{}, &unix.Ucred{Uid: 0}), 200},
		{"somebody else", context.WithValue(t.Context(), peerKey{}, &unix.Ucred{Uid: 4711}), 403},
		{"nobody knows who", withPeer(t.Context(), a), 403},
	} {
		w := httptest.NewRecorder()
		h := ownerOnly(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) }))
		h.ServeHTTP(w, httptest.NewRequest("POST", "/stop", nil).WithContext(tt.ctx))
		if w.Code != tt.code || tt.code == 403 && !strings.Contains(w.Body.String(), "only root and user") {
			t.Errorf("%s: %d %s", tt.name, w.Code, w.Body)
		}
	}
}
