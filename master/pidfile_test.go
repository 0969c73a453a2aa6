package master

import (
	"os"
	"path/filepath"
	"testing"
)

// TestWriteFileFollowsNoLink: somebody else may write in the folder of the PID file.
func TestWriteFileFollowsNoLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret, path := filepath.Join(dir, "secret"), filepath.Join(dir, "pid")
	if err := os.WriteFile(secret, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("secret", path); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"1\n", "12345\n"} {
		if err := writeFile(path, text); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		fi, serr := os.Lstat(path)
		if err != nil || serr != nil || string(b) != text || fi.Mode() != 0o644 {
			t.Errorf("%q, %v, %v", b, fi, err)
		}
	}
	if b, err := os.ReadFile(secret); err != nil || string(b) != "precious" {
		t.Errorf("the file behind the link: %q, %v", b, err)
	}
	if err := writeFile(filepath.Join(dir, "no", "pid"), "1\n"); err == nil {
		t.Error("no error")
	}
	if left, _ := filepath.Glob(dir + "/*"); len(left) != 2 {
		t.Errorf("left behind: %v", left)
	}
}
