package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pipeWith returns the name of a pipe that has text in it, and ends unless it is to stay open.
func pipeWith(t *testing.T, text []byte, open bool) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	go func() {
		_, _ = w.Write(text)
		if !open {
			_ = w.Close()
		}
	}()
	return fmt.Sprintf("/dev/fd/%d", r.Fd())
}

// TestReadFile: nothing is read that has no end, and no more than there is room for.
func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, size int64) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte("workers = 1"), 0o600), os.Truncate(path, size)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, path string
		size       int // if there is no error
		pipe       bool
		want       string
	}{
		{"a file", file("a", 11), 11, false, ""},
		{"as large as can be", file("b", MaxSize), MaxSize, false, ""},
		{"too large", file("c", MaxSize+1), 0, false, "/c is larger than 16 MB"},
		{"a device", "/dev/zero", 0, false, "/dev/zero is not a regular file"},
		{"a named pipe", fifo, 0, false, "/fifo is not a regular file"},
		{"a directory", dir, 0, false, "is a directory"},
		{"nothing", filepath.Join(dir, "none"), 0, false, "no such file"},
		{"a pipe", pipeWith(t, []byte("workers = 1"), false), 11, true, ""},
		{"too much in a pipe", pipeWith(t, bytes.Repeat([]byte(" "), MaxSize+1), false), 0, true, "larger than 16 MB"},
		{"a pipe without an end", pipeWith(t, []byte("workers = 1"), true), 0, true, "did not end within 50ms"},
		{"a pipe at its end", pipeWith(t, nil, false), 0, true, "is at its end"},
	} {
		wait := time.Minute
		if strings.Contains(tt.name, "without an end") {
			wait = 50 * time.Millisecond
		}
		text, pipe, err := readFile(tt.path, wait)
		if tt.want == "" && (err != nil || len(text) != tt.size || pipe != tt.pipe) {
			t.Errorf("%s: %d bytes, pipe %t, %v", tt.name, len(text), pipe, err)
		}
		if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
}
