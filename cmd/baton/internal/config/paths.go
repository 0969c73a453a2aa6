package config

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// resolve makes the file's relative paths absolute. A listener keeps its address as a name.
func (f *File) resolve(x *Index, dir string) {
	f.PIDFile, f.LogFile = Absolute(dir, f.PIDFile), Absolute(dir, f.LogFile)
	if x.Has("control") {
		f.Control = Absolute(dir, f.Control)
	}
	for i := range f.Listen {
		l := &f.Listen[i]
		if l.Name == "" {
			l.Name = l.Address
		}
		if p, ok := strings.CutPrefix(l.Address, "unix:"); ok && p != "" {
			l.Address = "unix:" + Absolute(dir, p)
		}
		if l.TLS != nil {
			l.TLS.Cert, l.TLS.Key = Absolute(dir, l.TLS.Cert), Absolute(dir, l.TLS.Key)
		}
	}
	for i := range f.Programs {
		f.Programs[i].Dir = Absolute(dir, cmp.Or(f.Programs[i].Dir, "."))
	}
	for i := range f.Routes {
		f.Routes[i].Static = Absolute(dir, f.Routes[i].Static)
	}
}

// Absolute returns p below dir, unless it is absolute or "", which means none. Links stay in the path, so that every
// reload follows them anew.
func Absolute(dir, p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(dir, p)
}

// CertificateFiles returns the files that are watched as the config file is.
func (f *File) CertificateFiles() []string {
	var files []string
	for _, l := range f.Listen {
		if l.TLS != nil {
			files = append(files, l.TLS.Cert, l.TLS.Key)
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// usedPath is a path in the configuration.
type usedPath struct {
	key     string // that has it
	what    string // it is called
	path    string
	created bool // the server creates the file
}

// usedPaths lists them, the file of the configuration first.
func (f *File) usedPaths(file string) []usedPath {
	all := []usedPath{{what: "the config file", path: file}}
	for i, l := range f.Listen {
		key := fmt.Sprintf("listen.%d.", i)
		if l.TLS != nil {
			all = append(all, usedPath{key + "tls.cert", "a certificate", l.TLS.Cert, false},
				usedPath{key + "tls.key", "a key", l.TLS.Key, false})
		}
		if p, ok := strings.CutPrefix(l.Address, "unix:"); ok {
			all = append(all, usedPath{key + "address", "a listener", p, true})
		}
	}
	return append(all, usedPath{"control", "control", f.Control, true},
		usedPath{"pid_file", "pid_file", f.PIDFile, true},
		usedPath{"log_file", "log_file", f.LogFile, true})
}

// CheckPaths fails if two things have one path and the server creates one of them. It is for the configuration with the
// flags laid over it; file is the path of its file, or "", and then x may be nil. overridden reports whether the value
// of a key comes from elsewhere, and so has no position in the file.
func (f *File) CheckPaths(x *Index, file string, overridden func(key string) bool) error {
	if x == nil {
		x = &Index{}
	}
	var found []finding
	seen := map[string]usedPath{}
	for _, u := range f.usedPaths(file) {
		if u.path == "" {
			continue
		}
		first, taken := seen[filepath.Clean(u.path)]
		switch {
		case !taken:
			seen[filepath.Clean(u.path)] = u
		case u.created && first.what != u.what: // two listeners are another mistake
			at := u.key
			if overridden(at) {
				at = ""
			}
			what := fmt.Sprintf("%s: %s is %s as well", leaf(u.key), u.path, first.what)
			found = append(found, x.finding(at, what, ""))
		}
	}
	return x.errors(found)
}
