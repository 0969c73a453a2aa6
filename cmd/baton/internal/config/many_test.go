package config

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// repeated is a document of n parts, each with its number in it.
func repeated(n int, before, part, after string) string {
	var b strings.Builder
	b.WriteString(before)
	for i := range n {
		_, _ = fmt.Fprintf(&b, part, i)
	}
	return b.String() + after
}

// TestManyMistakes: whatever there is a lot of in a file, what it costs to read it grows no faster than the file. Of
// many mistakes the first are told, and the others counted.
func TestManyMistakes(t *testing.T) {
	const n, parts = 8000, 100_000
	for _, tt := range []struct {
		name, doc string
		mistakes  int
		what      string // is said of one, wherever it is
	}{
		{
			"misspelt keys", repeated(n, "", "wrokers_%05d = \"some text to fill the line with\"\n", ""), n,
			`unknown key "wrokers_00019"`,
		},
		{
			"in quotes with dots", repeated(n, "", "[[listen]]\n\"tls.key%d\" = 1\n", ""), n,
			`unknown key listen."tls.key19"`,
		},
		{
			"in one line", repeated(n, "listen = [", "{ addr = \"127.0.0.1:%d\" }, ", "]"), n,
			`unknown key "listen.addr"`,
		},
		{"wrong types", repeated(n, "", "[[route]]\npath = %d\n", ""), n, "route.path: the number 19, want a text"},
		{
			"the same route", repeated(n, "", "[[route]]\npath = \"/%[1]d/..\"\necho = true\n", ""), n - 1,
			"path /20/..: the same as in line 2",
		},
		{
			"too late", repeated(n, "", "[[route]]\npath = \"/%[1]d\"\nrespond = \"\"\ndelay = \"9%04[1]dh\"\n", ""), n,
			"delay: 90019h",
		},
		{"a long key", strings.Repeat("a", parts) + " = 1", 1, `unknown key "aaaa`},
		{"a deep key", strings.Repeat("a.", parts) + "a = 1", 1, `unknown key "a.a.a.a`},
		{"a deep table", "[" + strings.Repeat("a.", parts) + "a]\nb = 1", 1, `unknown table "a.a.a.a`},
		{"a deep array", "a = " + strings.Repeat("[", 9999) + strings.Repeat("]", 9999), 1, `unknown key "a"`},
		{"a long text", "workers = \"" + strings.Repeat("é", parts) + "\"", 1, `workers: the text "ééé`},
		{
			"nothing wrong",
			repeated(n, "", "[[route]]\npath = \"/%d\"\nrespond = \"some text to fill the line with\"\n", ""), 0, "",
		},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err := Parse("site.toml", []byte(tt.doc), "/")
		runtime.ReadMemStats(&after)
		if ratio := int(after.TotalAlloc-before.TotalAlloc) / len(tt.doc); ratio > 400 {
			t.Errorf("%s: %d bytes for each byte of the file", tt.name, ratio)
		}
		var errs UsageErrors
		if ok := errors.As(err, &errs); ok != (tt.mistakes > 0) || len(errs.First)+errs.More != tt.mistakes ||
			len(errs.First) > 20 {
			t.Errorf("%s: %d and %d mistakes: %.200v", tt.name, len(errs.First), errs.More, err)
			continue
		}
		if tt.mistakes > 0 {
			last := errs.First[len(errs.First)-1]
			if text := last.Text(); !strings.Contains(text, tt.what) || len(text) > 5000 {
				t.Errorf("%s: %d bytes: %.300s", tt.name, len(text), text)
			}
		}
	}
}
