package site

import (
	"net/http"
	"slices"
	"strings"
)

// The methods of routes. CONNECT is none of a server that is no tunnel, whatever a proxy in front believes, and TRACE shows what a
// proxy has added.
var (
	readMethods = []string{http.MethodGet, http.MethodHead, http.MethodOptions}
	allMethods  = []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
	}
)

// readOnly is a handler of what can only be read. It answers OPTIONS itself.
func readOnly(h http.Handler) http.Handler {
	allow := strings.Join(readMethods, ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodOptions:
			w.Header().Set("Allow", allow)
			w.WriteHeader(http.StatusNoContent)
		case !slices.Contains(readMethods, r.Method):
			notAllowed(w, allow)
		default:
			h.ServeHTTP(w, r)
		}
	})
}

// noTunnel refuses what no route has.
func noTunnel(h http.Handler) http.Handler {
	allow := strings.Join(allMethods, ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect || r.Method == http.MethodTrace {
			notAllowed(w, allow)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func notAllowed(w http.ResponseWriter, allow string) {
	w.Header().Set("Allow", allow)
	http.Error(w, "405 method not allowed", http.StatusMethodNotAllowed)
}
