package site

import (
	"errors"
	"net/http"
	"path"
	"strings"
)

// router picks the route with the longest path.
type router struct {
	routes  map[string]http.Handler // by clean path
	longest int                     // bytes of a path in routes
}

// CleanPath returns the form in which route paths are compared: two routes are the same if their clean paths are.
func CleanPath(p string) string { return path.Clean("/" + p) }

func (rt *router) add(p string, h http.Handler) error {
	p = CleanPath(p)
	if rt.routes[p] != nil {
		return errors.New("there are two of this path")
	}
	rt.routes[p], rt.longest = h, max(rt.longest, len(p))
	return nil
}

// ServeHTTP hands the request on as it came, with the route's path as its pattern.
func (rt *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for p := CleanPath(r.URL.Path); p != ""; p = parent(p) {
		if len(p) > rt.longest {
			continue
		}
		if h := rt.routes[p]; h != nil {
			r.Pattern = p
			h.ServeHTTP(w, r)
			return
		}
	}
	http.NotFound(w, r)
}

// parent returns the path above p: "/a" of "/a/b", "/" of "/a", and "" of "/".
func parent(p string) string {
	if p == "/" {
		return ""
	}
	return p[:max(1, strings.LastIndexByte(p, '/'))]
}
