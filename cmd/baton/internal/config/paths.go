package config

import (
	"fmt"
	"path/filepath"
	"strings"
)

// named is a file that the configuration names.
type named struct {
	key    string // or what else names it
	what   string // it is called
	path   string
	making bool // the server makes it
}

// named lists them, the file of the configuration first.
func (f *File) named(file string) []named {
	all := []named{{what: "the config file", path: file}}
	for i, l := range f.Listen {
		key := fmt.Sprintf("listen.%d.", i)
		if l.TLS != nil {
			all = append(all, named{key + "tls.cert", "a certificate", l.TLS.Cert, false}, named{key + "tls.key", "a key", l.TLS.Key, false})
		}
		if p, ok := strings.CutPrefix(l.Address, "unix:"); ok {
			all = append(all, named{key + "address", "a listener", p, true})
		}
	}
	return append(all, named{"control", "control", f.Control, true}, named{"pid_file", "pid_file", f.PIDFile, true},
		named{"log_file", "log_file", f.LogFile, true})
}

// CheckPaths looks at the files that the server makes: each has a path of its own. It is for
// what is to be served, with the flags over the file; file is its path, or "", and then x may be nil. Of what elsewhere
// says the file does not have the value, and so no position.
func (f *File) CheckPaths(x *Index, file string, elsewhere func(key string) bool) error {
	if x == nil {
		x = &Index{}
	}
	var found []finding
	wrong := func(n named, format string, args ...any) {
		key := n.key
		if elsewhere(key) {
			key = ""
		}
		name := n.key[strings.LastIndexByte(n.key, '.')+1:]
		found = append(found, x.wrong(key, name+": "+fmt.Sprintf(format, args...), ""))
	}
	seen := map[string]named{}
	for _, n := range f.named(file) {
		if n.path == "" {
			continue
		}
		path := filepath.Clean(n.path)
		first, twice := seen[path]
		switch {
		case !twice:
			seen[path] = n
		case n.making && first.what != n.what: // two listeners are another mistake
			wrong(n, "%s is %s as well", n.path, first.what)
		}
	}
	return x.mistakes(found)
}
