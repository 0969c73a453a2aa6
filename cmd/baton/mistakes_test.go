package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"baton/cmd/baton/internal/config"
)

var update = flag.Bool("update", false, "write what comes out to testdata/mistakes.txt")

const mistakesFile = "testdata/mistakes.txt"

// TestMistakes reads cases of the form "== name, config, =>, what a person reads".
func TestMistakes(t *testing.T) {
	golden, err := os.ReadFile(mistakesFile)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "site.toml"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, c := range strings.Split(string(golden), "== ")[1:] {
		name, rest, _ := strings.Cut(c, "\n")
		doc, want, _ := strings.Cut(rest, "=>\n")
		_, _, err := config.Parse("site.toml", []byte(doc), dir)
		if err == nil {
			t.Errorf("%s: no mistake", name)
			continue
		}
		got := strings.ReplaceAll(explain(err), dir, "DIR") + "\n"
		if got != want && !*update {
			t.Errorf("%s:\n%s\nwant:\n%s", name, got, want)
		}
		if code := exitCode(err); code != exitUser {
			t.Errorf("%s: exit code %d", name, code)
		}
		if strings.Contains(reason(err), "\n") {
			t.Errorf("%s: more than one line: %s", name, reason(err))
		}
		_, _ = fmt.Fprintf(&out, "== %s\n%s=>\n%s", name, doc, got)
	}
	if *update {
		if err := os.WriteFile(mistakesFile, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
