package promises_test

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"baton/master/mastertest"
)

// TestWorkerCPUs: worker_cpus is what the workers' runtime uses, after a reload too.
func TestWorkerCPUs(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t).with("worker_cpus = 3")
	b := mastertest.Start(t, mastertest.Options{Config: s.String()})
	for range 2 {
		for _, pid := range b.AwaitSettled().PIDs("serving") {
			env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(env, []byte("\x00GOMAXPROCS=3\x00")) {
				t.Errorf("worker %d: GOMAXPROCS is not 3: %q", pid, env)
			}
		}
		b.Reload()
	}
}
