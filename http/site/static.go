package site

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strings"
	"syscall"
)

// newStatic serves dir for the paths below prefix, which is clean.
func newStatic(prefix, dir string) (http.Handler, error) {
	d, err := openDirectory(dir)
	if err != nil {
		return nil, fmt.Errorf("static: %w", err)
	}
	files := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if unit, _, _ := strings.Cut(r.Header.Get("Range"), "="); unit != "bytes" {
			r.Header.Del("Range") // unknown units are to be ignored (RFC 9110, 14.2)
		}
		http.FileServer(rooted{d.current(), w.Header()}).ServeHTTP(w, r)
	})
	if prefix == "/" {
		return readOnly(files), nil
	}
	below := http.StripPrefix(prefix, files)
	return readOnly(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == prefix:
			redirectToDirectory(w, r)
		case strings.HasPrefix(r.URL.Path, prefix+"/"):
			below.ServeHTTP(w, r)
		default: // only its cleaned path is below prefix; StripPrefix could not strip it
			http.NotFound(w, r)
		}
	})), nil
}

// redirectToDirectory adds the slash that relative links need. Like http.FileServer's own redirect it is relative,
// so that it names no other host.
func redirectToDirectory(w http.ResponseWriter, r *http.Request) {
	to := path.Base(r.URL.EscapedPath()) + "/"
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusMovedPermanently)
}

// rooted is a directory that nothing leads out of. The header of the answer gets the tag of the file that is opened.
// root.FS() would not do: http.FS wraps every file, and sendfile(2) needs the *os.File itself.
type rooted struct {
	root   *os.Root
	header http.Header
}

// Open opens a regular file, or a directory that has an index.html, and refuses everything else. Without O_NONBLOCK
// opening a named pipe would wait for its writer.
func (d rooted) Open(name string) (http.File, error) {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if hidden(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if name == "" {
		name = "."
	}
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, refuse(name, err)
	}
	if err := d.servable(f, name); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// hidden reports whether a path names something that is not meant for the public: .git, .env, .htpasswd, but not
// .well-known (RFC 8615). Links may lead to hidden names: those of a ConfigMap do.
func hidden(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(part, ".") && part != ".well-known" {
			return true
		}
	}
	return false
}

func (d rooted) servable(f *os.File, name string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Mode().IsRegular() {
		d.header.Set("Etag", tag(info))
		return nil
	}
	if info.IsDir() {
		info, err = d.root.Stat(path.Join(name, "index.html"))
	}
	if err != nil || !info.Mode().IsRegular() {
		return &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return nil
}

// tag returns an ETag that tells versions of a file apart. Its time of modification in seconds does not when two
// versions come in one second.
func tag(info fs.FileInfo) string {
	return fmt.Sprintf(`"%x-%x"`, info.ModTime().UnixNano(), info.Size())
}

// refuse turns an error of open into one for which http.FileServer has a status: 403 for a path that leads out of the
// directory (that error of os.Root is no errno), 404 for names that cannot be, as a socket's (ENXIO).
func refuse(name string, err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	switch errno {
	case syscall.ENOTDIR, syscall.ENAMETOOLONG, syscall.EINVAL, syscall.ELOOP, syscall.ENXIO:
		return &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return err
}
