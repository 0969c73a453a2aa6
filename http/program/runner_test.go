package program

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"baton/worker/wire"
)

func init() {
	plays["mortal"] = func() { // it serves only while the file is there
		if _, err := os.Stat(os.Getenv("CURE")); err != nil {
			fmt.Println("Error: no cure")
			os.Exit(3)
		}
		serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/die" {
				fmt.Println("\x1b[31mfarewell")
				os.Exit(7)
			}
			_, _ = fmt.Fprint(w, os.Getpid())
		}))
	}
}

// runMortal runs an instance that serves while the file cure exists.
func runMortal(t *testing.T, log *records) (r *Runner, cure string) {
	t.Helper()
	cure = filepath.Join(t.TempDir(), "cure")
	if err := os.WriteFile(cure, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	p := play("mortal", func(p *Program) { p.Env["CURE"], p.Timeout = cure, enough })
	r, err := Run(t.Context(), p, Place{}, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), enough)
		defer cancel()
		r.Stop(ctx)
	})
	return r, cure
}

func ask(r *Runner, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w
}

// awaitExit waits until the last exit is as wanted.
func awaitExit(t *testing.T, r *Runner, is func(n int64, e *wire.ProgramExit) bool) {
	t.Helper()
	end := time.After(enough)
	for {
		n, e := r.Exits()
		if is(n, e) {
			return
		}
		select {
		case <-end:
			t.Fatalf("%d exits, the last %+v", n, e)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// TestRunnerReplaces: what has died is replaced while requests wait, and how it has ended is told, its last lines once.
func TestRunnerReplaces(t *testing.T) {
	log := &records{}
	r, _ := runMortal(t, log)
	first := ask(r, "/").Body.String()
	if n, e := r.Exits(); n != 0 || e != nil {
		t.Errorf("%d exits, %+v", n, e)
	}
	if code := ask(r, "/die").Code; code != http.StatusBadGateway {
		t.Errorf("the request that it died under: %d", code)
	}
	awaitExit(t, r, func(n int64, _ *wire.ProgramExit) bool { return n == 1 })
	if second := ask(r, "/"); second.Code != http.StatusOK || second.Body.String() == first {
		t.Errorf("%d %s, before %s", second.Code, second.Body, first)
	}
	_, e := r.Exits()
	if e.Program != "web" || e.How != "exited with status 7" || !slices.Equal(e.Lines, []string{"[31mfarewell"}) {
		t.Errorf("%+v", e)
	}
	if got := log.String(); strings.Count(got, "farewell") != 1 || !strings.Contains(got, `state="exited with status 7"`) {
		t.Errorf("the log:\n%s", got)
	}
}

// TestRunnerBacksOff: what does not come up is tried again in growing pauses, and is told as well.
func TestRunnerBacksOff(t *testing.T) {
	r, cure := runMortal(t, &records{})
	if err := os.Remove(cure); err != nil {
		t.Fatal(err)
	}
	_ = ask(r, "/die")
	awaitExit(t, r, func(n int64, e *wire.ProgramExit) bool {
		return n > 2 && e.NextStart > 0.1 && e.How == "exited with status 3 before it was ready" &&
			slices.Equal(e.Lines, []string{"Error: no cure"}) && r.PID() == 0
	})
	if err := os.WriteFile(cure, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if w := ask(r, "/"); w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if _, e := r.Exits(); e.NextStart != 0 {
		t.Errorf("%+v", e)
	}
}
