package manual

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	width  = 80 // of a terminal that nobody has made wider
	column = 24 // in which the explanations of a table begin
)

// Help returns what there is to know of a command; of "", the whole program. It fails if there is no such command.
func (p Program) Help(command string) (text string, ok bool) {
	first := p.Commands[0]
	if command == "" {
		usage := fmt.Sprintf("usage: %s [command] [flags]; without a command it is `%s %s`", p.Name, p.Name, first.Name)
		all := []Section{{Text: p.About}, {Text: usage}, p.overview()}
		for _, s := range p.sections(first) {
			if s.Title == "flags" {
				s.Title = fmt.Sprintf("flags of `%s %s`", p.Name, first.Name)
				all = append(all, s)
			}
		}
		return join(append(all, p.Topics...)), true
	}
	c, ok := p.command(command)
	if !ok {
		return "", false
	}
	return join(append([]Section{{Text: "usage: " + p.usage(c)}}, p.sections(c)...)), true
}

func join(all []Section) string {
	var parts []string
	for _, s := range all {
		parts = append(parts, s.text())
	}
	return strings.Join(parts, "\n\n")
}

// text returns s for a terminal.
func (s Section) text() string {
	var b strings.Builder
	if s.Title != "" {
		b.WriteString(s.Title + ":\n")
	}
	indent := ""
	if s.Title != "" {
		indent = "  "
	}
	for i, paragraph := range strings.Split(s.Text, "\n\n") {
		if i > 0 {
			b.WriteString("\n")
		}
		for _, line := range wrap(paragraph, width-len(indent)) {
			b.WriteString(indent + line + "\n")
		}
	}
	for _, e := range s.Entries {
		b.WriteString(e.text())
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// text returns e as lines of two columns; terms that need more than theirs have a line of their own.
func (e Entry) text() string {
	var b strings.Builder
	term := "  " + strings.Join(e.Terms, ", ")
	if utf8.RuneCountInString(term) > column-2 {
		b.WriteString(term + "\n")
		term = ""
	}
	for _, line := range wrap(e.Text, width-column) {
		fmt.Fprintf(&b, "%-*s%s\n", column, term, line)
		term = ""
	}
	return b.String()
}

// wrap breaks a paragraph into lines of at most so many characters, if its words allow.
func wrap(paragraph string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(paragraph) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
