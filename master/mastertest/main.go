package mastertest

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Main runs the tests of a package that uses [Start] or [Build]; TestMain is
//
//	func TestMain(m *testing.M) { os.Exit(mastertest.Main(m)) }
//
// It builds the given binaries first, so that what does not build is one error and not one for each test; it makes the
// test process the reaper of orphans, so that what a killed supervisor leaves behind stays in sight; and it removes the
// built binaries at the end.
func Main(m *testing.M, needed ...BuildOptions) int {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "mastertest: cannot become a subreaper:", err)
		return 1
	}
	defer builds.remove()
	for _, opts := range needed {
		if _, err := tryBuild(opts); err != nil {
			fmt.Fprintln(os.Stderr, "mastertest:", err)
			return 1
		}
	}
	return m.Run()
}
