package config

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// exitUsage is the exit code after a UsageError.
const exitUsage = 100

// A UsageError is a mistake that the user can mend: what, where, and how.
type UsageError struct {
	What string
	Hint string // or ""

	File         string // "": the mistake is in no file
	Line, Column int    // from 1, in characters; 0: the whole file

	source string // the line, or the part of a long one that is around the mistake
	caret  int    // the mistake's column in it
	width  int    // characters that the caret underlines, at least 1
}

// Error returns one line.
func (e *UsageError) Error() string {
	switch {
	case e.File == "":
		return e.What
	case e.Line == 0:
		return e.File + ": " + e.What
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.What)
}

// ExitCode returns the exit code of the process.
func (e *UsageError) ExitCode() int { return exitUsage }

// Text returns Error and, below it, the line with a caret under the mistake. Tabs stay tabs, so that the caret is in
// its place.
//
//	site.toml:3:1: unknown key "wrokers"
//	    3 | wrokers = 4
//	      | ^^^^^^^
func (e *UsageError) Text() string {
	if e.Line == 0 {
		return e.Error()
	}
	source := []rune(e.source)
	before := min(e.caret-1, len(source))
	pad := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, string(source[:before]))
	carets := strings.Repeat("^", max(1, min(e.width, len(source)-before)))
	number := fmt.Sprintf("%5d", e.Line)
	return fmt.Sprintf("%s\n%s | %s\n%*s | %s%s", e.Error(), number, e.source, len(number), "", pad, carets)
}

// around is how many bytes of a line are shown on either side of a mistake.
const around = 200

// locate sets everything about the mistake's place but its line, which begins at start.
func (e *UsageError) locate(doc string, start int, at span) {
	end := len(doc)
	if n := strings.IndexByte(doc[start:], '\n'); n >= 0 {
		end = start + n
	}
	e.Column = utf8.RuneCountInString(doc[start:at.from]) + 1
	e.width = utf8.RuneCountInString(doc[at.from:min(at.to, end)])
	left, right := "", ""
	if at.from-start > around {
		start, left = runeStart(doc, at.from-around), "…"
	}
	if end-at.from > around {
		end, right = runeStart(doc, at.from+around), "…"
	}
	e.source = left + strings.TrimSuffix(doc[start:end], "\r") + right
	e.caret = utf8.RuneCountInString(left+doc[start:at.from]) + 1
}

// runeStart moves an offset back to where a character begins.
func runeStart(doc string, i int) int {
	for i > 0 && !utf8.RuneStart(doc[i]) {
		i--
	}
	return i
}

// clip shortens a text that nobody would read to its end, and for which no message between processes has room.
func clip(text string) string {
	const most = 1000
	if len(text) <= most {
		return text
	}
	return text[:runeStart(text, most)] + "…"
}

// maxErrors is how many mistakes are told; the others are counted.
const maxErrors = 20

// UsageErrors are the mistakes in one file, in its order: the first of them, and how many more there are.
type UsageErrors struct {
	First []*UsageError
	More  int
}

// Error returns one line: the first of them.
func (es UsageErrors) Error() string {
	switch more := len(es.First) - 1 + es.More; more {
	case 0:
		return es.First[0].Error()
	case 1:
		return es.First[0].Error() + " (and one more mistake)"
	default:
		return fmt.Sprintf("%s (and %d more mistakes)", es.First[0].Error(), more)
	}
}

// ExitCode returns the exit code of the process.
func (es UsageErrors) ExitCode() int { return exitUsage }
