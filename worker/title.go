package worker

import (
	"fmt"
	"os"
	"strconv"
)

// commMax is what the kernel keeps of a process's name.
const commMax = 15

// SetTitle names the process in ps and pgrep, as "baton worker 3". Names that the kernel would cut are written
// shorter, so that the number stays whole.
func SetTitle(role string, n int) {
	num := ""
	if n >= 0 {
		num = strconv.Itoa(n)
	}
	name := "baton"
	for _, form := range []string{"baton %s %s", "baton %s%s", "baton %.1s%s"} {
		name = fmt.Sprintf(form, role, num)
		if num == "" {
			name = "baton " + role
		}
		if len(name) <= commMax {
			break
		}
	}
	// By the main thread's path: /proc/self/comm is that of whatever thread runs this.
	_ = os.WriteFile(fmt.Sprintf("/proc/self/task/%d/comm", os.Getpid()), []byte(name), 0)
}
