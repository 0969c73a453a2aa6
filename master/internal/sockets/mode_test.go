package sockets

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// socketAt makes a socket's file as bind does, with what boundMode makes of mode.
func socketAt(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := boundMode(fd, mode); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
}

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Mode().Perm()
}

// TestModeFromTheFirstMoment: nobody can get at the file between bind and a chmod.
func TestModeFromTheFirstMoment(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	socketAt(t, path, 0o600)
	if m := mode(t, path); m&^0o600 != 0 {
		t.Errorf("right after bind: %v", m)
	}
}

func TestGiveMode(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	socketAt(t, path, 0o600)
	for _, want := range []os.FileMode{0o666, 0o666, 0o600} {
		if err := giveMode(path, want); err != nil || mode(t, path) != want {
			t.Errorf("%v, want %v: %v", mode(t, path), want, err)
		}
	}
}

// TestGiveModeFollowsNoLink: in a folder of somebody else the path may be a link to a file of ours by then.
func TestGiveModeFollowsNoLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret, link := filepath.Join(dir, "secret"), filepath.Join(dir, "link")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	private, second := filepath.Join(dir, "private"), filepath.Join(dir, "second")
	socketAt(t, private, 0o600)
	if err := errors.Join(os.Symlink("secret", link), os.Symlink("private", second)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, second, secret, filepath.Join(dir, "nothing")} {
		if err := giveMode(path, 0o666); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
	for _, path := range []string{secret, private} {
		if m := mode(t, path); m&^0o600 != 0 {
			t.Errorf("%s, behind a link: %v", path, m)
		}
	}
}
