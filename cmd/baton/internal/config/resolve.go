package config

import (
	"path/filepath"
	"strings"
)

// resolve makes the file's relative paths absolute, relative to dir. A listener keeps its address as a name.
func (f *File) resolve(x *Index, dir string) {
	for _, p := range []*string{&f.PIDFile, &f.LogFile} {
		*p = Absolute(dir, *p)
	}
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
	for i := range f.Routes {
		f.Routes[i].Static = Absolute(dir, f.Routes[i].Static)
	}
}

// Absolute leaves "" as it is: it means none. Links stay in the path, so that every reload follows them anew.
func Absolute(dir, p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(dir, p)
}
