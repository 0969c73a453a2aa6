package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"baton/http/site"
)

// Site returns the route as package site serves it.
func (r Route) Site() site.Route {
	return site.Route{
		Path: r.Path, Whoami: r.Whoami, Static: r.Static, Proxy: r.Proxy, Program: r.Program,
		Respond: r.Respond, Status: r.Status, Delay: r.Delay.Std(), Echo: r.Echo,
	}
}

func (v *verifier) trusted() {
	for i, s := range v.HTTP.TrustedProxies {
		if err := site.CheckTrusted(s); err != nil {
			v.wrong(fmt.Sprintf("http.trusted_proxies.%d", i), `as "10.1.2.3", "10.0.0.0/8" or "unix:"`,
				"trusted_proxies: %v", err)
		}
	}
}

func (v *verifier) routes() {
	paths := map[string]string{}
	for i, r := range v.Routes {
		path := fmt.Sprintf("route.%d", i)
		switch {
		case r.Path == "":
			v.wrong(path+".path", `as path = "/"`, "route: the path is missing")
		case !strings.HasPrefix(r.Path, "/"):
			v.wrong(path+".path", fmt.Sprintf("did you mean \"/%s\"?", r.Path), "path: %q does not begin with /",
				r.Path)
		default:
			v.duplicate(paths, site.CleanPath(r.Path), path+".path", "path "+r.Path)
		}
		const one = "a route has one of whoami, static, proxy, program, respond, echo"
		switch actions := r.Site().Actions(); len(actions) { // a key that is false or "" is none
		case 0:
			v.wrong(path, one, "route: says nothing to answer with")
		case 1:
		default:
			v.wrong(path, one, "route: %s are too many answers", strings.Join(actions, ", "))
		}
		v.respond(path, r)
		if r.Static != "" {
			v.directory(path+".static", r.Static)
		}
		if r.Program != "" && !slices.ContainsFunc(v.Programs, func(p Program) bool { return p.Name == r.Program }) {
			v.wrong(path+".program", DidYouMean(r.Program, v.programNames()),
				"program: there is no [[program]] with the name %q", r.Program)
		}
		if r.Proxy != "" {
			if _, err := site.ParseUpstream(r.Proxy); err != nil {
				v.wrong(path+".proxy", `as "http://127.0.0.1:9000"`, "proxy: %v", err)
			}
		}
	}
}

func (v *verifier) respond(path string, r Route) {
	for _, key := range []string{"status", "delay"} {
		if r.Respond == nil && v.x.Has(path+"."+key) {
			v.wrong(path+"."+key, "", "%s: goes with respond only", key)
		}
	}
	if (r.Status == 204 || r.Status == 304) && r.Respond != nil && *r.Respond != "" {
		v.wrong(path+".status", `respond = "" fits`, "status: an answer with %d has no text", r.Status)
	}
}

// directory checks that workers can open dir.
func (v *verifier) directory(path, dir string) {
	err := v.runAs.As(func() error { return openDirectory(dir) })
	switch {
	case errors.Is(err, unix.ENOTDIR):
		v.wrong(path, "", "static: %s is not a directory", dir)
	case errors.Is(err, fs.ErrPermission) && v.runAs != nil:
		v.wrong(path, fmt.Sprintf("user %q must be able to read it", v.User), "static: %v", err)
	case err != nil:
		v.wrong(path, "", "static: %v", err)
	}
}

// openDirectory opens dir and closes it, but not a file that open(2) would wait for.
func openDirectory(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return unix.ENOTDIR
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	return root.Close()
}
