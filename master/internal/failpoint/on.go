//go:build batonsteps

package failpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// DirEnv names the directory in which a test arranges what happens: a file "<point>.kill" kills the first process that
// comes by (the file is removed first); with a FIFO "<point>.hold" the process writes its PID into it, which blocks
// until the test reads it, and then reads the FIFO "<point>.go", which blocks until the test has opened and closed it.
const DirEnv = "BATON_FAILPOINTS"

// Hit obeys the test.
func Hit(s Point) {
	dir := os.Getenv(DirEnv)
	if dir == "" {
		return
	}
	if os.Remove(filepath.Join(dir, string(s)+".kill")) == nil {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	hold := filepath.Join(dir, string(s)+".hold")
	f, err := os.OpenFile(hold, os.O_WRONLY, 0)
	if err != nil {
		return
	}
	_ = os.Remove(hold)
	fmt.Fprintln(f, os.Getpid())
	_ = f.Close()
	_, _ = os.ReadFile(filepath.Join(dir, string(s)+".go"))
}
