package seqpacket

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childEnv makes the test binary the process of TestNoRoomForDescriptorsInFlight.
const childEnv = "SEQPACKET_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		if err := crowd(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestNoRoomForDescriptorsInFlight: a user that is not root may have no more descriptors in flight than it may have
// open files. A message that meets that limit waits, and so does what is posted after it; nothing is lost, and the end
// of either side ends the wait. It is the limit of a process and the number of a user, so it is tried in a process of
// another user.
func TestNoRoomForDescriptorsInFlight(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(exe)
	child.Env = append(os.Environ(), childEnv+"=1", "GORACE=atexit_sleep_ms=0")
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// crowd has as many descriptors in flight as it may, and then posts.
func crowd() error {
	if os.Getuid() == 0 {
		if err := syscall.Setuid(65533); err != nil { // and the capabilities are gone
			return err
		}
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: limit.Max}); err != nil {
		return err
	}
	give, take, err := Pair()
	if err != nil {
		return err
	}
	if err := fillFlight(give); err != nil {
		return err
	}
	for name, try := range map[string]func(a, b *Conn, drain func()) error{
		"waits": waitsForRoom, "closed": closedWithoutRoom, "dead": deadWithoutRoom,
	} {
		x, y, err := Pair()
		if err != nil {
			return err
		}
		a, aerr := New(x)
		b, berr := New(y)
		if err := errors.Join(aerr, berr); err != nil {
			return err
		}
		if err := try(a, b, func() { drainFlight(take) }); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		_, _ = a.Close(), b.Close()
		if err := fillFlight(give); err != nil {
			return err
		}
	}
	return nil
}

// fillFlight sends descriptors that nobody reads, until the kernel takes no more.
func fillFlight(fd int) error {
	for range 1000 {
		err := unix.Sendmsg(fd, []byte("x"), unix.UnixRights(slices.Repeat([]int{0}, 20)...), nil, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.ETOOMANYREFS) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("fill: %w", err)
		}
	}
	return errors.New("the kernel takes any number of descriptors")
}

// drainFlight drops what is in flight: without room for descriptors the kernel closes them.
func drainFlight(fd int) {
	for {
		if _, err := unix.Read(fd, make([]byte, 1)); err != nil {
			return
		}
	}
}

// waitsForRoom: three messages arrive, in order, the descriptors with theirs.
func waitsForRoom(a, b *Conn, drain func()) error {
	for _, post := range []struct {
		name string
		fds  []int
	}{{"first", []int{0}}, {"second", nil}, {"third", []int{0, 0}}} {
		if err := a.Post(note{Name: post.name}, post.fds...); err != nil {
			return fmt.Errorf("post: %w", err)
		}
	}
	time.Sleep(20 * time.Millisecond) // for a writer that would give up
	if a.Idle() {
		return errors.New("nothing waits")
	}
	drain()
	for i, want := range []string{"first", "second", "third"} {
		p, err := b.Recv()
		if err != nil {
			return err
		}
		var got note
		if err := p.Frame.Into(&got); err != nil || got.Name != want || len(p.FDs) != []int{1, 0, 2}[i] {
			return fmt.Errorf("%q with %d descriptors, want %q: %w", got.Name, len(p.FDs), want, err)
		}
		p.Close()
	}
	return nil
}

func closedWithoutRoom(a, _ *Conn, _ func()) error {
	if err := a.Post(note{}, 0); err != nil {
		return err
	}
	if err := a.Close(); err != nil {
		return err
	}
	a.Flush() // returns
	return nil
}

func deadWithoutRoom(a, b *Conn, _ func()) error {
	if err := a.Post(note{}, 0); err != nil {
		return err
	}
	if err := b.Close(); err != nil {
		return err
	}
	a.Flush() // returns
	if err := a.Post(note{}); err == nil {
		return errors.New("posted to the dead")
	}
	return nil
}
