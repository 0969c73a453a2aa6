package program

import (
	"bufio"
	"bytes"
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"unicode"

	"baton/worker/logsink"
)

const (
	tailLines = 20 // what is kept for the one who asks why an instance has failed
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

// The worker's own standard output and error, where raw output goes. Nobody waits for those who read them.
var own = map[string]func() *logsink.Sink{
	"stdout": sync.OnceValue(func() *logsink.Sink { return logsink.New(1) }),
	"stderr": sync.OnceValue(func() *logsink.Sink { return logsink.New(2) }),
}

// follow reads an output to its end. It is always read, or the instance would wait.
func (i *Instance) follow(r *os.File, stream string) {
	defer func() { _ = r.Close() }()
	var p pieces
	scanner := bufio.NewScanner(r)
	scanner.Split(p.split)
	if i.program.Raw {
		p.cost, p.room = rawCost, pieceLimit-1
	} else {
		p.cost, p.room = recordCost, recordLimit
	}
	for scanner.Scan() {
		i.say(scanner.Bytes(), stream, p.part)
	}
}

// say passes a line on, or a part of one that is too long; part is 0 for a line.
func (i *Instance) say(line []byte, stream string, part int) {
	line = bytes.TrimSuffix(line, []byte("\r"))
	text := strings.ToValidUTF8(string(line), "\uFFFD")
	if part <= 1 {
		i.tail.add(text)
	}
	if i.program.Raw {
		_, _ = own[stream]().Write(append(bytes.Clone(line), '\n'))
		return
	}
	attrs := []slog.Attr{
		slog.String("program", i.program.Name), slog.Int("program_pid", i.PID()), slog.String("stream", stream),
		slog.String("line", text),
	}
	if part > 0 {
		attrs = append(attrs, slog.Int("part", part))
	}
	i.log.LogAttrs(context.Background(), slog.LevelInfo, "program: output", attrs...)
}
