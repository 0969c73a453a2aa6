package watch

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestPair: two files that must match, as a certificate and its key, wait for each other: whoever writes one after the
// other makes one change.
func TestPair(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(*testing.T, string, string){"in place": inPlace, "by rename": swap} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
			content := func(file string) string { b, _ := os.ReadFile(file); return string(b) }
			inPlace(t, cert, "one")
			inPlace(t, key, "one")
			sum, err := Read([]string{cert, key})
			must(t, err)
			half, changed := make(chan bool, 100), make(chan string, 100)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				Run(ctx, Options{
					Files: []string{cert, key}, Loaded: sum, Log: slog.New(slog.DiscardHandler),
					Valid: func() error {
						if content(cert) != content(key) {
							half <- true
							return errors.New("they do not match")
						}
						return nil
					},
					Changed: func() { changed <- content(cert) + content(key) },
				})
			}()
			t.Cleanup(func() { cancel(); <-ended })
			write(t, cert, "two")
			<-half // it has been looked at
			<-half // and again
			write(t, key, "two")
			select {
			case got := <-changed:
				if got != "twotwo" {
					t.Errorf("told of %q", got)
				}
			case <-time.After(patience):
				t.Fatal("not told")
			}
			select {
			case got := <-changed:
				t.Errorf("told twice, then of %q", got)
			case <-time.After(silence):
			}
		})
	}
}
