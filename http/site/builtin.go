package site

import (
	_ "embed"
	"net/http"
)

//go:embed page.html
var page []byte

// builtIn is the site of a config without routes.
func builtIn(self Self) (http.Handler, error) {
	who, err := newWhoami(self)
	if err != nil {
		return nil, err
	}
	welcome := newAnswer(http.StatusOK, "text/html; charset=utf-8", page)
	mux := http.NewServeMux()
	mux.Handle("/{$}", &welcome)
	mux.Handle("/whoami", who)
	return noTunnel(readOnly(mux)), nil
}
