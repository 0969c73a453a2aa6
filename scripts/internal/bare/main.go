// Command bare is what scripts/bench measures baton against: net/http and nothing else. It answers as whoami does, and
// with -files serves a directory below /files/.
package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
)

func main() {
	address := flag.String("address", "127.0.0.1:8080", "where it listens")
	files := flag.String("files", "", "a `directory` to serve, below /files/; below /copied/ without sendfile")
	accept := flag.String("accept", "", "the `way` in which several processes share the port: "+strings.Join(ways,
		", "))
	workers := flag.Int("workers", 1, "how many `processes`")
	flag.Parse()
	mux := http.NewServeMux()
	if *files != "" {
		served := http.FileServer(http.Dir(*files))
		mux.Handle("/files/", http.StripPrefix("/files/", served))
		mux.Handle("/copied/", http.StripPrefix("/copied/", copied(served)))
	}
	var err error
	if *accept == "" {
		err = http.ListenAndServe(*address, whoamiOr(mux))
	} else {
		err = share(*address, *accept, *workers, whoamiOr(mux))
	}
	fmt.Fprintln(os.Stderr, "bare:", err)
	os.Exit(1)
}

// whoamiOr answers / by itself: what is compared pays for no mux there.
func whoamiOr(next http.Handler) http.HandlerFunc {
	body := fmt.Appendf(nil, "{\"generation\":1,\"slot\":0,\"pid\":%d,\"version\":\"v1\"}\n", os.Getpid())
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body)
	}
}

// copied hides from net/http that it could use sendfile.
func copied(next http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(struct{ http.ResponseWriter }{w}, r)
	}
}
