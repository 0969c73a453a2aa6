package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"baton/http/site"
)

func (v *verifier) routes() {
	paths := map[string]string{}
	for i, r := range v.Routes {
		path := fmt.Sprintf("route.%d", i)
		switch {
		case r.Path == "":
			v.wrong(path+".path", `as path = "/"`, "route: the path is missing")
		case !strings.HasPrefix(r.Path, "/"):
			v.wrong(path+".path", fmt.Sprintf("did you mean \"/%s\"?", r.Path), "path: %q does not begin with /", r.Path)
		default:
			v.twice(paths, site.CleanPath(r.Path), path+".path", "path "+r.Path)
		}
		v.oneWay(path, r)
		v.respond(path, r)
		if r.Static != "" {
			v.directory(path+".static", r.Static)
		}
		if r.Proxy != "" {
			if _, err := site.ParseUpstream(r.Proxy); err != nil {
				v.wrong(path+".proxy", `as "http://127.0.0.1:9000"`, "proxy: %v", err)
			}
		}
	}
}

// oneWay checks that there is one answer: a key that is set to false or "" is none.
func (v *verifier) oneWay(path string, r Route) {
	var set []string
	for _, w := range []struct {
		key string
		set bool
	}{
		{"whoami", r.Whoami}, {"static", r.Static != ""}, {"proxy", r.Proxy != ""}, {"respond", r.Respond != nil}, {"echo", r.Echo},
	} {
		if w.set {
			set = append(set, w.key)
		}
	}
	const hint = "a route has one of whoami, static, proxy, respond, echo"
	switch len(set) {
	case 0:
		v.wrong(path, hint, "route: says nothing to answer with")
	case 1:
	default:
		v.wrong(path, hint, "route: %s are too many answers", strings.Join(set, ", "))
	}
}

func (v *verifier) respond(path string, r Route) {
	for _, key := range []string{"status", "delay"} {
		if r.Respond == nil && v.x.Has(path+"."+key) {
			v.wrong(path+"."+key, "", "%s: goes with respond only", key)
			return
		}
	}
	v.number(path+".delay", "Delay", "delay", int64(r.Delay))
	switch {
	case !v.x.Has(path + ".status"):
	case r.Status < 200 || r.Status > 599:
		v.wrong(path+".status", "", "status: %d, want 200 to 599", r.Status)
	case (r.Status == 204 || r.Status == 304) && r.Respond != nil && *r.Respond != "":
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

// openDirectory tries, after having looked that it is none of what waits to be opened.
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
