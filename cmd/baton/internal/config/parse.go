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
	var anything map[string]any
	if err := toml.Unmarshal(doc, &anything); err != nil {
		return f, nil, Syntax(name, doc, err)
	}
	if len(anything) == 0 {
		return f, nil, &Mistake{File: name, What: "the config file is empty", Hint: "with no --config at all, a built-in page is served"}
	}
	x := newIndex(name, doc)
	if ms := fileSchema().check(x); len(ms) > 0 {
		return f, x, ms.orNil()
	}
	if err := toml.NewDecoder(bytes.NewReader(doc)).DisallowUnknownFields().Decode(&f); err != nil {
		return f, x, Syntax(name, doc, err) // what the schema misses: a quoted key with a dot in it
	}
	f.resolve(x, dir)
	v := &verifier{File: &f, x: x}
	v.verify()
	return f, x, v.found.orNil()
}

// Syntax is what the parser found, as a mistake.
func Syntax(name string, doc []byte, err error) error {
	m := &Mistake{File: name, What: strings.TrimPrefix(err.Error(), "toml: "), Width: 1}
	var de *toml.DecodeError
	if errors.As(err, &de) {
		m.What = strings.TrimPrefix(de.Error(), "toml: ")
		var column int
		m.Line, column = de.Position()
		m.Source, m.Column = sourceLine(doc, m.Line, column)
	}
	return m
}

// sourceLine returns a line, and a column of bytes in it as one of characters.
func sourceLine(doc []byte, line, column int) (string, int) {
	lines := strings.SplitN(string(doc), "\n", line+1)
	if line < 1 || line > len(lines) {
		return "", 1
	}
	source := lines[line-1]
	column = len([]rune(source[:min(max(column-1, 0), len(source))])) + 1
	return strings.TrimSuffix(source, "\r"), column
}
