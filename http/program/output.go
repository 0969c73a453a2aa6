package program

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

const (
	lineLimit = 8 << 10 // a longer line becomes several
	tailLines = 20      // what is kept for the one who asks why an instance has failed
	tailWidth = 400
)

// tail is the last lines of what an instance has printed.
type tail struct {
	mu    sync.Mutex
	lines []string
}

// add takes a line. It will be shown on a terminal, which must not obey it.
func (t *tail) add(line string) {
	line = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\t' {
			return -1
		}
		return r
	}, line)
	if strings.TrimSpace(line) == "" {
		return
	}
	if len(line) > tailWidth {
		line = strings.ToValidUTF8(line[:tailWidth], "") + "…"
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == tailLines {
		t.lines = slices.Delete(t.lines, 0, 1)
	}
	t.lines = append(t.lines, line)
}

// last returns them.
func (t *tail) last() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.lines)
}

// follow reads an output to its end. It is always read, or the instance would wait. own is the worker's output of the
// same name.
func (i *Instance) follow(r, own *os.File) {
	defer func() { _ = r.Close() }()
	b := bufio.NewReaderSize(r, lineLimit)
	for broken := false; ; { // the line, because it is too long
		line, err := b.ReadSlice('\n')
		if len(line) > 1 || len(line) == 1 && !broken {
			i.say(line, own)
		}
		broken = errors.Is(err, bufio.ErrBufferFull)
		if err != nil && !broken {
			return
		}
	}
}

// say passes a line on.
func (i *Instance) say(line []byte, own *os.File) {
	text := strings.TrimRight(string(line), "\r\n")
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\uFFFD")
	}
	i.tail.add(text)
	if i.program.Raw {
		_, _ = own.WriteString(strings.TrimRight(string(line), "\n") + "\n")
		return
	}
	i.log.LogAttrs(context.Background(), slog.LevelInfo, "program: output", slog.String("program", i.program.Name),
		slog.Int("program_pid", i.PID()), slog.String("stream", strings.TrimPrefix(own.Name(), "/dev/")),
		slog.String("line", text))
}
