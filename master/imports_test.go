package master_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// rule is about the imports of the packages below from, direct and indirect.
type rule struct {
	from   string
	except string   // the rule is not for what is below it
	only   []string // nothing but the standard library and these; nil: anything
	not    []string
}

var rules = []rule{
	{from: "baton/worker", not: []string{"baton/master", "baton/http", "baton/cmd"}},
	{from: "baton/worker/wire", only: []string{"baton/worker/wire"}},
	{from: "baton/master/internal/message", only: []string{"baton/worker/wire"}},
	{from: "baton/master/internal/status", only: []string{"baton/worker/wire"}},
	{from: "baton/master/internal/systemd", only: []string{
		"golang.org/x/sys", "github.com/coreos/go-systemd", "baton/worker", "baton/master/internal/monotime",
	}},
	{
		from: "baton/master/internal/supervisor/reexec",
		not:  []string{"baton/master/internal/message", "baton/master/internal/systemd"},
	},
	{from: "baton/worker/logsink", only: []string{"golang.org/x/sys", "baton/worker/wire"}},
	{from: "baton/master", not: []string{"baton/cmd"}},
	{
		from: "baton/master/internal/supervisor",
		only: []string{
			"golang.org/x/sys", "github.com/coreos/go-systemd", "baton/worker", "baton/master/internal",
			"baton/master/internal/supervisor",
		},
	},
	{
		from: "baton/master/internal", except: "baton/master/internal/supervisor",
		not: []string{"baton/master/internal/supervisor"},
	},
	{from: "baton/master/internal/listen", only: []string{
		"golang.org/x/sys", "baton/worker/wire", "baton/worker/rawfd", "baton/worker/ownfile",
		"baton/master/internal/backoff", "baton/master/internal/monotime", "baton/master/internal/status",
	}},
	{from: "baton/master/internal/plan", only: []string{
		"golang.org/x/sys", "baton/worker/wire", "baton/master/internal/backoff", "baton/master/internal/monotime",
		"baton/master/internal/status",
	}},
	{from: "baton/cmd/baton/internal/config", not: []string{"baton/http/httpworker"}},
	{from: "baton/http", not: []string{"baton/master", "baton/cmd"}},
}

// tests drives the built program, and may know of it what users do.
const tests = "baton/master/mastertest"

var toml = []string{"github.com/BurntSushi/toml", "github.com/pelletier/go-toml"}

// TestImportsRunDownward keeps packages from importing what lies above them.
func TestImportsRunDownward(t *testing.T) {
	t.Parallel()
	for pkg, imports := range packages(t) {
		for _, r := range rules {
			if below(pkg, r.from) && !below(pkg, tests) && (r.except == "" || !below(pkg, r.except)) {
				r.check(t, pkg, imports)
			}
		}
		if below(pkg, "baton/master") && !below(pkg, tests) {
			rule{not: append([]string{"baton/http"}, toml...)}.check(t, pkg, imports)
		}
		if below(pkg, "baton/worker") {
			rule{not: toml}.check(t, pkg, imports)
		}
		if !below(pkg, "baton/cmd") {
			rule{not: []string{"baton/cmd"}}.check(t, pkg, imports)
		}
	}
}

func (r rule) check(t *testing.T, pkg string, imports []string) {
	t.Helper()
	for _, imp := range imports {
		for _, n := range r.not {
			if below(imp, n) {
				t.Errorf("%s imports %s, perhaps through others", pkg, imp)
			}
		}
		if r.only == nil || standard(imp) || imp == pkg {
			continue
		}
		if !slices.ContainsFunc(r.only, func(o string) bool { return below(imp, o) }) {
			t.Errorf("%s imports %s, and is to import only %v", pkg, imp, r.only)
		}
	}
}

// packages lists the packages of the module, and what each imports, directly or not.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Deps " "}}`,
		"baton/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		all[words[0]] = words[1:]
	}
	for _, want := range []string{
		"baton/master", "baton/master/internal/supervisor", "baton/worker/wire", "baton/http/httpworker",
		"baton/cmd/baton",
	} {
		if len(all[want]) == 0 {
			t.Fatalf("go list does not know %s", want)
		}
	}
	return all
}

func below(pkg, folder string) bool { return pkg == folder || strings.HasPrefix(pkg, folder+"/") }

func standard(pkg string) bool {
	first, _, _ := strings.Cut(pkg, "/")
	return !strings.Contains(first, ".") && first != "baton"
}
