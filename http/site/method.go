package site

import (
	"net/http"
	"slices"
	"strings"
)

var (
	readMethods = []string{http.MethodGet, http.MethodHead, http.MethodOptions}
	allMethods  = []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodOptions,
	}
)

// readOnly serves with h what can only be read, and answers OPTIONS itself.
func readOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodOptions:
			allow(w, readMethods)
			w.WriteHeader(http.StatusNoContent)
		case !slices.Contains(readMethods, r.Method):
			notAllowed(w, readMethods)
		default:
			h.ServeHTTP(w, r)
		}
	})
}

// noTunnel refuses CONNECT, for this is no forward proxy, whatever a proxy in front believes, and TRACE, which shows
// what a proxy has added.
func noTunnel(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect || r.Method == http.MethodTrace {
			notAllowed(w, allMethods)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func allow(w http.ResponseWriter, methods []string) {
	w.Header().Set("Allow", strings.Join(methods, ", "))
}

func notAllowed(w http.ResponseWriter, methods []string) {
	allow(w, methods)
	http.Error(w, "405 method not allowed", http.StatusMethodNotAllowed)
}
