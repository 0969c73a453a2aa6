package worker

import "golang.org/x/sys/unix"

// Of the process's limit of open files an eighth is kept back for what requests open, files and connections to upstreams:
// at least reserveLeast, at most reserveMost.
const (
	reserveLeast = 32
	reserveMost  = 1024
)

// roomFor is how many connections a process may have: those that were configured, or if that is 0 what its limit of open
// files allows.
func roomFor(configured int) int64 {
	if configured > 0 {
		return int64(configured)
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 1 << 31
	}
	files := int64(min(limit.Cur, 1<<31))
	return max(1, files-min(max(files/8, reserveLeast), reserveMost))
}
