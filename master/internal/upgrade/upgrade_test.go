package upgrade

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"baton/worker/seqpacket"
)

const (
	registrationEnv = "UPGRADE_TEST_REGISTRATION"
	roleEnv         = "UPGRADE_TEST_ROLE" // of a successor: "ready", or "fails"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		succeed(role)
	}
	os.Exit(m.Run())
}

// succeed says on the registration socket which arguments it has, and is ready or fails.
func succeed(role string) {
	u, registration, err := Open(registrationEnv)
	if err != nil {
		os.Exit(3)
	}
	if _, err := unix.Write(registration, []byte(os.Args[1]+" "+
		""+os.Args[len(os.Args)-1]+os.Getenv(hasParent))); err != nil || role == "fails" {
		os.Exit(4)
	}
	u.Ready()
	os.Exit(0)
}

// A successor finds the registration socket, and its predecessor hears when it is ready, or has gone.
func TestStart(t *testing.T) {
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(ours) }()
	t.Setenv(registrationEnv, strconv.Itoa(theirs))
	t.Setenv(hasParent, "yes") // of a program that started the tests
	t.Setenv(roleEnv, "")
	u, registration, err := Open(registrationEnv)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(registration) }()
	if os.Getenv(registrationEnv) != "" {
		t.Error("the registration socket is in the environment still")
	}
	u.Ready()
	exe, own := os.Args[0], slices.Clone(os.Args)
	for _, role := range []string{"fails", "fails", "ready"} {
		err := u.Start([]string{exe, "-last"}, "title", map[string]string{roleEnv: role})
		if (err == nil) != (role == "ready") {
			t.Errorf("%s: %v", role, err)
		}
		b := make([]byte, 100)
		if n, err := unix.Read(ours, b); string(b[:max(n, 0)]) != "title -last" {
			t.Errorf("%s: the successor said %q, %v", role, b[:max(n, 0)], err)
		}
		if !slices.Equal(os.Args, own) {
			t.Errorf("%s: os.Args are %q", role, os.Args)
		}
	}
}

func TestIsTransient(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"fork/exec /x: text file busy":  true,
		"parent hasn't exited":          true,
		"process is not ready yet":      true,
		"child exited: exit status 100": false,
		"fork/exec /x: no such file":    false,
	} {
		if isTransient(errors.New(text)) != want {
			t.Errorf("%s", text)
		}
	}
}
