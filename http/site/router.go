package site

import (
	"cmp"
	"errors"
	"net/http"
	"path"
	"slices"
	"strings"
)

// router picks the route with the longest path.
type router struct {
	routes []route // the longest prefix first
}

type route struct {
	prefix string // clean, and "" for "/"
	http.Handler
}

func (rt *router) add(p string, h http.Handler) error {
	if !strings.HasPrefix(p, "/") {
		return errors.New("want a path that begins with /")
	}
	prefix := strings.TrimSuffix(CleanPath(p), "/")
	for _, r := range rt.routes {
		if r.prefix == prefix {
			return errors.New("there are two of this path")
		}
	}
	rt.routes = append(rt.routes, route{prefix, h})
	slices.SortStableFunc(rt.routes, func(a, b route) int { return cmp.Compare(len(b.prefix), len(a.prefix)) })
	return nil
}

// ServeHTTP hands the request on as it came.
func (rt *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := path.Clean(r.URL.Path)
	for i := range rt.routes {
		if rt.routes[i].matches(p) {
			rt.routes[i].ServeHTTP(w, r)
			return
		}
	}
	http.NotFound(w, r)
}

func (r *route) matches(p string) bool {
	return strings.HasPrefix(p, r.prefix) && (len(p) == len(r.prefix) || r.prefix == "" || p[len(r.prefix)] == '/')
}
