package config

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// exitCode is that of a user's mistake.
const exitCode = 100

// A Mistake is something that the user can mend: what, where, and how.
type Mistake struct {
	What string
	Hint string // or ""

	// In a file: where. They count from 1, in characters.
	File         string
	Line, Column int

	source string // the line, or what of a long one is around the mistake
	caret  int    // the mistake's column in it
	width  int    // characters that the caret underlines, at least 1
}

// Error is one line.
func (m *Mistake) Error() string {
	switch {
	case m.File == "":
		return m.What
	case m.Line == 0:
		return m.File + ": " + m.What
	}
	return fmt.Sprintf("%s:%d:%d: %s", m.File, m.Line, m.Column, m.What)
}

// ExitCode is what the process exits with because of m.
func (m *Mistake) ExitCode() int { return exitCode }

// Text is Error and, in a file, what it is about.
func (m *Mistake) Text() string {
	if m.Line == 0 {
		return m.Error()
	}
	return m.Error() + "\n" + m.excerpt()
}

// excerpt is the line with a caret below. Tabs stay tabs, so that the caret is below what it means.
//
//	3 | wrokers = 4
//	  | ^^^^^^^
func (m *Mistake) excerpt() string {
	number := fmt.Sprintf("%5d", m.Line)
	source := []rune(m.source)
	before := min(m.caret-1, len(source))
	pad := make([]rune, before)
	for i, r := range source[:before] {
		if pad[i] = ' '; r == '\t' {
			pad[i] = r
		}
	}
	carets := strings.Repeat("^", max(1, min(m.width, len(source)-before)))
	return fmt.Sprintf("%s | %s\n%s | %s%s", number, m.source, strings.Repeat(" ", len(number)), string(pad), carets)
}

// around is how many bytes of a line are shown on either side of a mistake.
const around = 200

// place says where in doc a mistake is, whose line begins at start: all but the number of the line.
func (m *Mistake) place(doc string, start int, at span) {
	end := len(doc)
	if n := strings.IndexByte(doc[start:], '\n'); n >= 0 {
		end = start + n
	}
	m.Column = utf8.RuneCountInString(doc[start:at.from]) + 1
	m.width = utf8.RuneCountInString(doc[at.from:min(at.to, end)])
	left, right := "", ""
	if at.from-start > around {
		start, left = runeStart(doc, at.from-around), "…"
	}
	if end-at.from > around {
		end, right = runeStart(doc, at.from+around), "…"
	}
	m.source = left + strings.TrimSuffix(doc[start:end], "\r") + right
	m.caret = utf8.RuneCountInString(left+doc[start:at.from]) + 1
}

// runeStart moves an offset back to where a character begins.
func runeStart(doc string, i int) int {
	for i > 0 && !utf8.RuneStart(doc[i]) {
		i--
	}
	return i
}

// clip shortens what nobody would read to its end, nor a message between processes has room for.
func clip(text string) string {
	const most = 1000
	if len(text) <= most {
		return text
	}
	return text[:runeStart(text, most)] + "…"
}

// mostMistakes is how many are told; of more there is only the number.
const mostMistakes = 20

// Mistakes are what was found in one file, in its order: the first of them, and how many more there are.
type Mistakes struct {
	First []*Mistake
	More  int
}

// Error is one line: the first of them.
func (ms Mistakes) Error() string {
	switch more := len(ms.First) - 1 + ms.More; more {
	case 0:
		return ms.First[0].Error()
	case 1:
		return ms.First[0].Error() + " (and one more mistake)"
	default:
		return fmt.Sprintf("%s (and %d more mistakes)", ms.First[0].Error(), more)
	}
}

// ExitCode is what the process exits with because of ms.
func (ms Mistakes) ExitCode() int { return exitCode }
