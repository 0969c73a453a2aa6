//go:build !batonsteps

package failpoint

// Hit does nothing in a normal build.
func Hit(Point) {}
