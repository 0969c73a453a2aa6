package main

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// mistake is something that the user can mend: what, where, and how.
type mistake struct {
	What string
	Hint string // or ""

	// In a file: where, and the text there. Line and Column count from 1, in characters.
	File         string
	Line, Column int
	Source       string // the line
	Width        int    // characters that the caret underlines, at least 1
}

// Error is one line.
func (m *mistake) Error() string {
	switch {
	case m.File == "":
		return m.What
	case m.Line == 0:
		return m.File + ": " + m.What
	}
	return fmt.Sprintf("%s:%d:%d: %s", m.File, m.Line, m.Column, m.What)
}

// ExitCode is what the process exits with because of m.
func (m *mistake) ExitCode() int { return exitUser }

func (m *mistake) explain() string {
	text := "baton: " + m.Error()
	if m.Line > 0 {
		text += "\n" + m.excerpt()
	}
	return withHint(text, m.Hint)
}

// excerpt is the line with a caret below. Tabs stay tabs, so that the caret is below what it means.
//
//	3 | wrokers = 4
//	  | ^^^^^^^
func (m *mistake) excerpt() string {
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

// mistakes are all that was found in one place, in its order.
type mistakes []*mistake

// Error is one line: the first of them.
func (ms mistakes) Error() string {
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
func (ms mistakes) ExitCode() int { return exitUser }

func (ms mistakes) explain() string {
	texts := make([]string, len(ms))
	for i, m := range ms {
		texts[i] = m.explain()
	}
	return strings.Join(texts, "\n")
}

// orNil is ms as an error, in the order of the file.
func (ms mistakes) orNil() error {
	if len(ms) == 0 {
		return nil
	}
	slices.SortStableFunc(ms, func(a, b *mistake) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return ms
}
