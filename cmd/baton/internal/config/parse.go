package config

import (
	"bytes"
	"errors"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Parse reads doc, which is called name in messages and lies in dir. Its errors are [UsageErrors], or one [UsageError]
// if it is not valid TOML.
func Parse(name string, doc []byte, dir string) (File, *Index, error) {
	f := Defaults()
	doc = bytes.TrimPrefix(doc, []byte("\xef\xbb\xbf")) // some editors on Windows begin with it
	x, err := newIndex(name, doc)
	if err != nil {
		if located := toml.Unmarshal(doc, &struct{}{}); located != nil {
			err = located
		}
		return f, nil, SyntaxError(name, doc, err)
	}
	if len(x.entries) == 0 {
		return f, nil, &UsageError{File: name, What: "the config file is empty", Hint: HintNoFile}
	}
	if err := x.errors(checkKeys(x)); err != nil {
		return f, x, err
	}
	if err := toml.Unmarshal(doc, &f); err != nil {
		return f, x, SyntaxError(name, doc, err) // a key that is there twice, a number of more than 64 bits
	}
	f.resolve(x, dir)
	v := &verifier{File: &f, x: x}
	v.verify()
	return f, x, x.errors(v.found)
}

// HintNoFile says what is served without a config file.
const HintNoFile = "with no --config at all, a built-in page is served"

// SyntaxError returns an error of package toml as a UsageError.
func SyntaxError(name string, doc []byte, err error) *UsageError {
	e := &UsageError{File: name, What: clip(strings.TrimPrefix(err.Error(), "toml: "))}
	var de *toml.DecodeError
	if !errors.As(err, &de) {
		return e
	}
	line, column := de.Position()
	start := 0
	for range line - 1 {
		start += bytes.IndexByte(doc[start:], '\n') + 1
	}
	from := min(start+max(column-1, 0), len(doc))
	e.locate(string(doc), start, span{from, from + 1})
	e.Line, e.width = line, 1
	e.Hint = otherLanguage(string(doc), start)
	return e
}

// otherLanguage says which other language the line that begins at start looks like, or "".
func otherLanguage(doc string, start int) string {
	line, _, _ := strings.Cut(doc[start:], "\n")
	line = strings.TrimSpace(line)
	key, value, colon := strings.Cut(line, ":")
	language := ""
	switch {
	case strings.ContainsRune(doc, 0):
		return "save it as UTF-8"
	case strings.HasPrefix(strings.TrimSpace(doc), "{"):
		language = "JSON"
	case strings.HasSuffix(line, ";"), strings.HasSuffix(line, "{"), line == "}":
		language = "nginx's language"
	case strings.HasPrefix(line, "- "), strings.HasPrefix(line, "---"),
		colon && !strings.ContainsAny(key, `="' `) && (value == "" || value[0] == ' '):
		language = "YAML"
	default:
		return ""
	}
	return "this is TOML, not " + language + `: workers = 4, and [[listen]] on a line before address = ":80"`
}
