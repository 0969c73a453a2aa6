package promises_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
)

// TestSupervisorDiesWhileGenerationsDrain: the workers of older generations are nobody's children then. A request of
// theirs finishes, and one that stands still (SIGSTOP) is killed when the stop's time is over.
func TestSupervisorDiesWhileGenerationsDrain(t *testing.T) {
	for _, stands := range []bool{false, true} {
		t.Run(map[bool]string{false: "finishes", true: "stands still"}[stands], func(t *testing.T) {
			t.Parallel()
			s := unwatchedSite(t).with(`stop_timeout = "2s"`)
			b := start(t, s)
			answers := askSlowly(t, b, s.listen[0], "/slow1", 2)
			b.Reload()
			draining := b.AwaitStatus("a generation that drains", func(st mastertest.Status) bool {
				return st.State == "serving" && len(st.PIDs("draining")) > 0
			}).PIDs("draining")
			b.Kill(b.PID())
			b.Wait() // by then the kernel has continued whoever was stopped: their group is an orphan now
			if stands {
				for _, pid := range draining {
					_ = unix.Kill(pid, unix.SIGSTOP) // one of them may have had no request
				}
			}
			b.WantGone()
			for range 2 {
				if err := <-answers; (err != nil) != stands {
					t.Errorf("a request in progress: %v", err)
				}
			}
		})
	}
}
