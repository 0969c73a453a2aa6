package master

import (
	"runtime"
	"testing"
)

// A worker has its share of the CPUs that this process may use, one at least; the configuration overrides.
func TestWorkerCPUs(t *testing.T) {
	t.Parallel()
	cpus := runtime.GOMAXPROCS(0)
	for _, tt := range []struct {
		name            string
		cfg             Config
		workers, wanted int
	}{
		{"one worker has all", Config{}, 1, cpus},
		{"each has its share", Config{}, cpus, 1},
		{"at least one", Config{}, 10 * cpus, 1},
		{"as configured", Config{WorkerCPUs: 7}, 10 * cpus, 7},
	} {
		if got := tt.cfg.workerCPUs(tt.workers); got != tt.wanted {
			t.Errorf("%s: %d CPUs, want %d", tt.name, got, tt.wanted)
		}
	}
	if got := (&Config{}).workers(); got != cpus {
		t.Errorf("workers = auto is %d, want %d", got, cpus)
	}
}
