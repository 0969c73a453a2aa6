package mastertest

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ReplaceBinary puts another file in the binary's place by rename, as an installation does.
func (b *Baton) ReplaceBinary(path string) {
	b.tb.Helper()
	_ = os.Remove(b.Path(".baton.new"))
	if err := linkOrCopy(path, b.Path(".baton.new")); err != nil {
		b.tb.Fatal(err)
	}
	b.renameBinary()
}

// ReplaceBinaryBy puts an executable file with this content in the binary's place.
func (b *Baton) ReplaceBinaryBy(content []byte) {
	b.tb.Helper()
	if err := writeExecutable(b.Path(".baton.new"), content); err != nil {
		b.tb.Fatal(err)
	}
	b.renameBinary()
}

// Reinstall puts a copy in the binary's place: another file, that does the same.
func (b *Baton) Reinstall() {
	b.tb.Helper()
	content, err := os.ReadFile(b.Path("baton"))
	if err != nil {
		b.tb.Fatal(err)
	}
	b.ReplaceBinaryBy(content)
}

// Upgrade replaces the binary by one of another version, a different one for each n, and returns that.
func (b *Baton) Upgrade(n int) (version string) {
	b.tb.Helper()
	binary, version := stamped(b.tb, n)
	b.ReplaceBinaryBy(binary)
	return version
}

func (b *Baton) renameBinary() {
	b.tb.Helper()
	if err := os.Rename(b.Path(".baton.new"), b.Path("baton")); err != nil {
		b.tb.Fatal(err)
	}
	b.mu.Lock()
	b.replaced = true
	b.mu.Unlock()
}

// endsSupervisor reports whether a signal ends a supervisor that is just executing another binary, with an exit code
// that is not 0. No Go program can do better in those few milliseconds, see supervisor.holdSignals.
func endsSupervisor(sig unix.Signal) bool {
	return sig == unix.SIGTERM || sig == unix.SIGINT || sig == unix.SIGQUIT
}

// awaitSupervisor waits while a supervisor at rest has still to follow to the binary that serves. It is for those who
// are about to stop it and want to see exit code 0.
func (b *Baton) awaitSupervisor() {
	b.mu.Lock()
	replaced := b.replaced
	b.mu.Unlock()
	for end := time.Now().Add(Timeout / 3); replaced && time.Now().Before(end); time.Sleep(pollInterval) {
		st, err := b.TryStatus()
		if err != nil || st.State != "serving" || st.Reexecuted() ||
			strings.Contains(fmt.Sprint(st.Warnings), "the supervisor stays") {
			return
		}
	}
}

// Reexecuted says that the supervisor executes the same file as the master, and has come so far as to give itself its
// name.
func (s Status) Reexecuted() bool {
	supervisor, err1 := os.Stat(fmt.Sprintf("/proc/%d/exe", s.SupervisorPID))
	master, err2 := os.Stat(fmt.Sprintf("/proc/%d/exe", s.MasterPID))
	if err1 != nil || err2 != nil || !os.SameFile(supervisor, master) {
		return false
	}
	// after the other look: before it, this may still be the name of the old program
	p, err := ReadProc(s.SupervisorPID)
	return err == nil && p.Comm == SupervisorComm
}

// SupervisorComm is the name of a supervisor as far as the kernel keeps it.
var SupervisorComm = "baton supervisor"[:15]

// linkOrCopy makes the same file in another place.
func linkOrCopy(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return writeExecutable(to, content)
}

// writeExecutable writes a file that is executed at once. While it is open nobody may fork: a child that has not come
// to its exec yet would hold it open for writing, and make it "text file busy" for the one who executes it.
func writeExecutable(path string, content []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	_ = os.Remove(path)
	return os.WriteFile(path, content, 0o700)
}
