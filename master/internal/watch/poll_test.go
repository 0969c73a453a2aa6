package watch

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/fsnotify/fsnotify"
)

// Where a limit is reached there are no events, and changes are found all the same.
func TestPollsWithoutNotification(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "site.toml")
	if err := os.WriteFile(file, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	sum, err := Read([]string{file})
	if err != nil {
		t.Fatal(err)
	}
	w := watchBy(t, file, sum, func() (*fsnotify.Watcher, error) { return nil, syscall.EMFILE })
	for _, content := range []string{"two", "three"} { // the first may be seen by the look at the start
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		w.tells(content)
	}
}
