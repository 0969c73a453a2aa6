package config

import (
	"bytes"
	"errors"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Parse reads doc, which is called name in messages and lies in dir. Its errors are the user's mistakes, with
// positions; there are several if it is valid TOML.
func Parse(name string, doc []byte, dir string) (File, *Index, error) {
	f := Defaults()
	doc = bytes.TrimPrefix(doc, []byte("\xef\xbb\xbf")) // some editors on Windows begin with it
	x, err := newIndex(name, doc)
	if err != nil {
		if located := toml.Unmarshal(doc, &struct{}{}); located != nil {
			err = located
		}
		return f, nil, Syntax(name, doc, err)
	}
	if len(x.entries) == 0 {
		const hint = "with no --config at all, a built-in page is served"
		return f, nil, &Mistake{File: name, What: "the config file is empty", Hint: hint}
	}
	if err := x.mistakes(fileSchema().check(x)); err != nil {
		return f, x, err
	}
	if err := toml.Unmarshal(doc, &f); err != nil {
		return f, x, Syntax(name, doc, err) // a key that is there twice, a number of more than 64 bits
	}
	f.resolve(x, dir)
	v := &verifier{File: &f, x: x}
	v.verify()
	return f, x, x.mistakes(v.found)
}

// Syntax is what the parser found, as a mistake.
func Syntax(name string, doc []byte, err error) error {
	m := &Mistake{File: name, What: clip(strings.TrimPrefix(err.Error(), "toml: "))}
	var de *toml.DecodeError
	if !errors.As(err, &de) {
		return m
	}
	m.What = clip(strings.TrimPrefix(de.Error(), "toml: "))
	line, column := de.Position()
	start := 0
	for range line - 1 {
		start += bytes.IndexByte(doc[start:], '\n') + 1
	}
	from := min(start+max(column-1, 0), len(doc))
	m.place(string(doc), start, span{from, from + 1})
	m.Line, m.width = line, 1
	m.Hint = foreign(string(doc), start)
	return m
}

// foreign says what another language looks like, in the line that begins at start, or "".
func foreign(doc string, start int) string {
	line, _, _ := strings.Cut(doc[start:], "\n")
	line = strings.TrimSpace(line)
	key, value, colon := strings.Cut(line, ":")
	switch {
	case strings.ContainsRune(doc, 0):
		return "save it as UTF-8"
	case strings.HasPrefix(strings.TrimSpace(doc), "{"):
		return "this is TOML, not JSON: " + likeTOML
	case strings.HasSuffix(line, ";"), strings.HasSuffix(line, "{"), line == "}":
		return "this is TOML, not nginx's language: " + likeTOML
	case strings.HasPrefix(line, "- "), strings.HasPrefix(line, "---"),
		colon && !strings.ContainsAny(key, `="' `) && (value == "" || value[0] == ' '):
		return "this is TOML, not YAML: " + likeTOML
	}
	return ""
}

const likeTOML = `workers = 4, and [[listen]] on a line before address = ":80"`
