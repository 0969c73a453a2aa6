package config

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// exitCode is that of a user's mistake.
const exitCode = 100

// A Mistake is something that the user can mend: what, where, and how.
type Mistake struct {
	What string
	Hint string // or ""

	// In a file: where, and the text there. Line and Column count from 1, in characters.
	File         string
	Line, Column int
	Source       string // the line
	Width        int    // characters that the caret underlines, at least 1
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
	var pad strings.Builder
	for i, r := range []rune(m.Source) {
		if i >= m.Column-1 {
			break
		}
		if r != '\t' {
			r = ' '
		}
		pad.WriteRune(r)
	}
	left := utf8.RuneCountInString(m.Source) - (m.Column - 1)
	carets := strings.Repeat("^", max(1, min(m.Width, left)))
	return fmt.Sprintf("%s | %s\n%s | %s%s", number, m.Source, strings.Repeat(" ", len(number)), pad.String(), carets)
}

// Mistakes are all that was found in one place, in its order.
type Mistakes []*Mistake

// Error is one line: the first of them.
func (ms Mistakes) Error() string {
	switch more := len(ms) - 1; more {
	case 0:
		return ms[0].Error()
	case 1:
		return ms[0].Error() + " (and one more mistake)"
	default:
		return fmt.Sprintf("%s (and %d more mistakes)", ms[0].Error(), more)
	}
}

// ExitCode is what the process exits with because of ms.
func (ms Mistakes) ExitCode() int { return exitCode }

// orNil is ms as an error, in the order of the file.
func (ms Mistakes) orNil() error {
	if len(ms) == 0 {
		return nil
	}
	slices.SortStableFunc(ms, func(a, b *Mistake) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return ms
}
