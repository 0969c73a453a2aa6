package mastertest

import (
	"os"
	"syscall"
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
}

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
