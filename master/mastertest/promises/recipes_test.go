package promises_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"baton/master/mastertest"
	"baton/scripts/load"
)

// A recipe is a section of recipes.md: files, and a script that starts baton.
type recipe struct {
	name, script string
	files        map[string]string
}

// recipeBlock is a block of code; the comment in its first line is the name of a file, but where it is a script.
var recipeBlock = regexp.MustCompile("(?s)\n```(\\w+)\n((?:<\\?php )?(?://|#) ([\\w.]+)\n)?(.*?)\n```\n")

// readRecipes reads the sections.
func readRecipes(tb testing.TB) (all []recipe) {
	tb.Helper()
	text, err := os.ReadFile("../../../cmd/baton/recipes.md")
	if err != nil {
		tb.Fatal(err)
	}
	for _, section := range strings.Split(string(text), "\n## ")[1:] {
		name, rest, _ := strings.Cut(section, "\n")
		r := recipe{name: name, files: map[string]string{}}
		for _, m := range recipeBlock.FindAllStringSubmatch(rest, -1) {
			if m[1] == "sh" {
				r.script = m[2] + m[4]
			} else {
				r.files[m[3]] = m[2] + m[4] + "\n"
			}
		}
		all = append(all, r)
	}
	return all
}

// recipeNeeds says what a shell is asked to know whether a recipe can be tried here, and which of its files is read at
// the start only, and so can be broken under load.
var recipeNeeds = map[string]struct{ try, file, broken string }{
	"Node":     {"node --version", "server.js", "require('./routes')\n"},
	"Express":  {`node --eval "require('express')"`, "server.js", "require('./routes')\n"},
	"gunicorn": {"gunicorn --version", "app.py", "import routes\n"},
	"uvicorn":  {"uvicorn --version", "app.py", "import routes\n"},
	"puma":     {"puma --version", "config.ru", "require 'routes'\n"},
	"PHP":      {"php --version", "", ""},
}

// TestRecipes runs what recipes.md says, as it stands there: under load no request is lost in its reloads, and no
// client its connection; a broken version changes nothing.
func TestRecipes(t *testing.T) {
	t.Parallel()
	for _, r := range readRecipes(t) {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			needs, known := recipeNeeds[r.name]
			if !known {
				t.Fatal("nobody knows what it needs")
			}
			if out, err := exec.Command("sh", "-c", needs.try).CombinedOutput(); err != nil {
				t.Skipf("%s: %v\n%s", needs.try, err, out)
			}
			exclusive(t)
			r.run(t, needs.file, needs.broken)
		})
	}
}

// run starts baton as the recipe says, on another port.
func (r recipe) run(t *testing.T, file, broken string) {
	t.Helper()
	address := mastertest.FreePort(t)
	_, port, _ := strings.Cut(address, ":")
	for name, text := range r.files {
		r.files[name] = strings.ReplaceAll(text, "127.0.0.1:8080", address)
	}
	b := mastertest.Start(t, mastertest.Options{
		Files: r.files,
		Shell: strings.NewReplacer("--port 8080", "--port "+port, "baton ", `exec "$BATON" `).Replace(r.script),
	})
	clients := putLoad(t, address, load.Mix(2, 8, 8))
	n := 1
	pace(t, 3**repeat, 250*time.Millisecond, func(int) {
		b.Reload()
		n++
		wantBody(t, b, address, "/", fmt.Sprintf("generation %d\n", n))
	})
	if file != "" {
		b.WriteFile(file, broken)
		res := b.CLI("reload")
		if res.Code != 1 || !strings.Contains(res.Stderr, "before it was ready\n  | ") ||
			!strings.Contains(res.Stderr, "routes") {
			t.Errorf("a broken version: exit code %d, %s", res.Code, res.Stderr)
		}
		wantBody(t, b, address, "/", fmt.Sprintf("generation %d\n", n))
		b.WriteFile(file, r.files[file])
		b.Reload() // whose instances also remove the sockets of those that were killed with the attempt
	}
	report := wantNoLoss(t, clients)
	t.Log(report)
	wantKept(t, report)
	b.Stop()
}
