package logsink

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/wire"
)

// patience is long enough for whatever a test waits for: it ends tests that fail.
const patience = 20 * time.Second

// pipe is a blocking pipe, as `baton 2>&1 | tee` has.
func pipe(t *testing.T) (r *os.File, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r = os.NewFile(uintptr(p[0]), "pipe")
	t.Cleanup(func() { _ = r.Close() })
	return r, p[1]
}

// closeFD is for descriptors that a Sink, which lives as long as its process, writes to no more.
func closeFD(t *testing.T, fd int) {
	t.Helper()
	if err := unix.Close(fd); err != nil {
		t.Error(err)
	}
}

func write(t *testing.T, s *Sink, line string) {
	t.Helper()
	if n, err := s.Write([]byte(line)); n != len(line) || err != nil {
		t.Errorf("write: %d, %v", n, err)
	}
}

func wantLine(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	if got, err := r.ReadString('\n'); err != nil || got != want {
		t.Fatalf("read %q, %v, want %q", got, err, want)
	}
}

func TestLinesComeInOrder(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(int) *Sink{"background": New, "foreground": NewForeground} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, w := pipe(t)
			s, lines := start(w), bufio.NewReader(r)
			for i := range 100 {
				write(t, s, fmt.Sprintf("line %d\n", i))
			}
			for i := range 100 {
				wantLine(t, lines, fmt.Sprintf("line %d\n", i))
			}
			s.Flush(patience)
			closeFD(t, w)
		})
	}
}

func TestWriteKeepsNoReference(t *testing.T) {
	t.Parallel()
	r, w := pipe(t)
	s := New(w)
	line := []byte("before\n")
	_, _ = s.Write(line)
	copy(line, "after!")
	wantLine(t, bufio.NewReader(r), "before\n")
	s.Flush(patience)
	closeFD(t, w)
}

// TestFullPipe: whoever writes does not wait for a reader that does not read; what is lost is counted, and the reader
// is told when it reads again.
func TestFullPipe(t *testing.T) {
	t.Parallel()
	r, w := pipe(t)
	s := New(w)
	line := strings.Repeat("x", 1023) + "\n"
	const many = 4 * backlog // the pipe holds 64 of them
	for range many {
		write(t, s, line)
	}
	lost := int(s.Dropped())
	if lost < many-backlog-100 || lost >= many {
		t.Errorf("%d of %d lines dropped", lost, many)
	}
	s.Flush(0) // does not wait either

	lines := bufio.NewReader(r)
	for range many - lost {
		wantLine(t, lines, line)
	}
	wantLine(t, lines, fmt.Sprintf("baton: %d log lines dropped, nobody read them\n", lost))
	write(t, s, "and on\n")
	wantLine(t, lines, "and on\n")
	s.Flush(patience)
	closeFD(t, w)
}

func TestNonBlockingPipe(t *testing.T) {
	t.Parallel()
	r, w := pipe(t)
	if err := unix.SetNonblock(w, true); err != nil { // by somebody who shares it
		t.Fatal(err)
	}
	s := New(w)
	long := strings.Repeat("y", 200<<10) + "\n" // the pipe holds a third
	write(t, s, long)
	wantLine(t, bufio.NewReader(r), long)
	s.Flush(patience)
	closeFD(t, w)
}

func TestClosedPipeEndsNothing(t *testing.T) {
	t.Parallel()
	r, w := pipe(t)
	s := New(w)
	_ = r.Close()
	write(t, s, "to nobody\n")
	s.Flush(patience)
	r2, w2 := pipe(t)
	s.SetFD(w2)
	write(t, s, "to somebody\n")
	lines := bufio.NewReader(r2)
	wantLine(t, lines, "baton: 1 log lines lost: broken pipe\n")
	wantLine(t, lines, "to somebody\n")
	s.Flush(patience)
	closeFD(t, s.FD())
}

func TestSetFD(t *testing.T) {
	t.Parallel()
	old, w := pipe(t)
	s := New(w)
	write(t, s, "old\n")
	s.Flush(patience)
	r, w2 := pipe(t)
	s.SetFD(w2)
	write(t, s, "new\n")
	wantLine(t, bufio.NewReader(r), "new\n")
	s.Flush(patience)

	first := bufio.NewReader(old)
	wantLine(t, first, "old\n")
	if b, err := first.ReadByte(); err == nil {
		t.Errorf("the old descriptor is open, and says %q", b)
	}
	closeFD(t, s.FD())
}

// TestSetFDWhileWriting: no line may go where neither the old nor the new log file is, in a descriptor whose number
// somebody got meanwhile.
func TestSetFDWhileWriting(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func(i int) int {
		fd, err := Open(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	s := New(open(0))
	const lines, files = 5000, 200
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range lines {
			_, _ = fmt.Fprintf(s, "%d\n", i)
			if i%500 == 499 {
				s.Flush(patience)
			}
		}
	}()
	for i := range files {
		s.SetFD(open(i + 1))
	}
	<-done
	s.Flush(patience)
	got := 0
	for i := range files + 1 {
		b, err := os.ReadFile(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		got += strings.Count(string(b), "\n")
	}
	if got+int(s.Dropped()) != lines {
		t.Errorf("%d of %d lines are in the files, %d were dropped", got, lines, s.Dropped())
	}
	closeFD(t, s.FD())
}

func TestOpenAppends(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("first\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(fd, []byte("second\n")); err != nil {
		t.Fatal(err)
	}
	closeFD(t, fd)
	if b, err := os.ReadFile(path); err != nil || string(b) != "first\nsecond\n" {
		t.Errorf("%q, %v", b, err)
	}
	if fd, err := Open(filepath.Join(path, "below")); err == nil || !strings.Contains(err.Error(), "below") {
		t.Errorf("%d, %v", fd, err)
	}
}

// TestOpenPipe: a named pipe that nobody reads is an error, and not waited for.
func TestOpenPipe(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.Is(err, unix.ENXIO) {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close() })
	fd, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
}

func TestLoggerFormats(t *testing.T) {
	t.Parallel()
	var text, js strings.Builder
	Logger(&text, wire.LogStyle{Format: "text"}).Info("hello", "slot", 3)
	if !strings.Contains(text.String(), "msg=hello slot=3") {
		t.Errorf("%q", text.String())
	}
	Logger(&js, wire.LogStyle{Format: "json"}).Info("hello", "slot", 3, "within", 1500*time.Millisecond)
	var line struct {
		Msg    string
		Slot   int
		Within float64
	}
	err := json.Unmarshal([]byte(js.String()), &line)
	if err != nil || line.Msg != "hello" || line.Slot != 3 || line.Within != 1.5 {
		t.Errorf("%q: %v", js.String(), err)
	}
}

func TestLoggerLevels(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		var b strings.Builder
		log := Logger(&b, wire.LogStyle{Format: format, Level: slog.LevelWarn})
		log.Debug("one")
		log.Info("two")
		log.Warn("three")
		log.Error("four")
		if n := strings.Count(b.String(), "\n"); n != 2 || strings.Contains(b.String(), "two") {
			t.Errorf("%s: %q", format, b.String())
		}
	}
}

// TestFullDisk: what could not be written is counted, and said when there is room again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	full, err := unix.Open("/dev/full", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip(err)
	}
	s := New(full)
	for range 3 {
		write(t, s, "lost\n")
	}
	s.Flush(patience)
	if n, why := s.Missing(); n != 3 || why != unix.ENOSPC.Error() {
		t.Errorf("%d lost: %s", n, why)
	}
	r, w := pipe(t)
	s.SetFD(w)
	lines := bufio.NewReader(r)
	write(t, s, "one\n")
	write(t, s, "two\n")
	for _, want := range []string{"baton: 3 log lines lost: no space left on device\n", "one\n", "two\n"} {
		wantLine(t, lines, want)
	}
}

// TestTornLine: what follows a line of which only a part was written begins on a line of its own.
func TestTornLine(t *testing.T) {
	t.Parallel()
	const room = 1 << 16 // a multiple of a page
	fd, err := unix.MemfdCreate("disk", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err == nil {
		err = unix.Ftruncate(fd, room)
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_GROW) // as a full disk
	}
	if err != nil {
		t.Fatal(err)
	}
	s := New(fd)
	write(t, s, strings.Repeat("x", room+1)+"\n")
	write(t, s, "lost\n")
	s.Flush(patience)
	r, w := pipe(t)
	s.SetFD(w)
	lines := bufio.NewReader(r)
	write(t, s, "one\n")
	for _, want := range []string{"\n", "baton: 2 log lines lost: operation not permitted\n", "one\n"} {
		wantLine(t, lines, want)
	}
}
