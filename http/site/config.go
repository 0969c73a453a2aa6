package site

import (
	"errors"
	"fmt"
	"net/http"
	"path"
	"time"
)

// Config is what a site answers. Its zero value is the built-in page at "/" and whoami at "/whoami".
type Config struct {
	Routes []Route `json:"routes,omitempty"`

	// UpstreamTimeout is how long an upstream may take until it begins to answer; beyond it the answer is 504. If 0,
	// for ever.
	UpstreamTimeout time.Duration `json:"upstream_timeout,omitempty"`
}

// A Route is a path and one of the ways to answer it: exactly one of Whoami, Static, Proxy, Respond and Echo is set. What can
// only be read has the methods GET, HEAD and OPTIONS, and no route has CONNECT and TRACE: other requests get 405.
type Route struct {
	// Path begins with "/". It answers itself and everything below it: "/api" answers "/api", "/api/" and "/api/v1",
	// but not "/apix"; "/" answers everything. "/api/" is the same route as "/api". The longest path wins. What is
	// compared is the decoded and cleaned path of the request, so that "/x/../api" is a request for "/api".
	Path string `json:"path"`

	// Whoami answers with one line of JSON: generation, slot, pid, version.
	Whoami bool `json:"whoami,omitempty"`

	// Static is a directory, and Path stands for it: with the path "/docs", "/docs/a.html" is its file "a.html".
	// A directory answers with its index.html, and with 403 if it has none. Nothing outside of the directory is
	// served, through symbolic links neither, nor is anything but regular files. If another directory is put in its
	// place, that one is served within a second.
	Static string `json:"static,omitempty"`

	// Proxy is the URL that requests go to, with the whole path of the request appended. The upstream sees its own
	// name as Host and the client's in X-Forwarded-Host, -For and -Proto, which are made here, whatever the
	// client says.
	Proxy string `json:"proxy,omitempty"`

	// Respond is a text that is the answer, with Status (if 0, 200) and after Delay. With a status of success it is
	// something that can be read, with any other it answers whatever was asked.
	Respond *string       `json:"respond,omitempty"`
	Status  int           `json:"status,omitempty"`
	Delay   time.Duration `json:"delay,omitempty"`

	// Echo answers with the request's body, while it is still being read, whatever the method.
	Echo bool `json:"echo,omitempty"`
}

// Self is the process that answers, as whoami tells it.
type Self struct {
	Generation int    `json:"generation"`
	Slot       int    `json:"slot"`
	PID        int    `json:"pid"`
	Version    string `json:"version"`
}

// New returns the handler of cfg. It opens the directories, and leaves upstreams alone.
func New(cfg Config, self Self) (http.Handler, error) {
	if len(cfg.Routes) == 0 {
		return builtIn(self)
	}
	rt := &router{}
	transport := newTransport(cfg.UpstreamTimeout)
	for _, r := range cfg.Routes {
		h, err := r.handler(self, transport)
		if err != nil {
			return nil, fmt.Errorf("route %s: %w", r.Path, err)
		}
		if err := rt.add(r.Path, h); err != nil {
			return nil, fmt.Errorf("route %s: %w", r.Path, err)
		}
	}
	return noTunnel(rt), nil
}

func (r Route) handler(self Self, transport http.RoundTripper) (http.Handler, error) {
	switch {
	case r.ways() != 1:
		return nil, errors.New("want one of whoami, static, proxy, respond and echo")
	case r.Whoami:
		return newWhoami(self)
	case r.Static != "":
		return newStatic(CleanPath(r.Path), r.Static)
	case r.Proxy != "":
		return newProxy(r.Proxy, transport)
	case r.Respond != nil:
		return newRespond(*r.Respond, r.Status, r.Delay), nil
	default:
		return http.HandlerFunc(echo), nil
	}
}

// ways counts how many answers the route has.
func (r Route) ways() int {
	n := 0
	for _, set := range []bool{r.Whoami, r.Static != "", r.Proxy != "", r.Respond != nil, r.Echo} {
		if set {
			n++
		}
	}
	return n
}

// CleanPath is the form in which route paths are compared: two routes are the same if their clean paths are.
func CleanPath(p string) string { return path.Clean("/" + p) }
