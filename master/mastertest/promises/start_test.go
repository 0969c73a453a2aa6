package promises_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"baton/master/mastertest"
)

// TestStartsThatCannotBe: what is missing is said by its name.
func TestStartsThatCannotBe(t *testing.T) {
	t.Parallel()
	baton := mastertest.Build(t, mastertest.BuildOptions{})
	noProc := []string{"unshare", "-m", "/bin/sh", "-c", `umount -l /proc && exec "$0"`, baton}
	for name, tt := range map[string]struct {
		args []string
		env  string
		code int
		want string
	}{
		"a role that there is not": {[]string{baton}, "BATON_ROLE=x", 100, "BATON_ROLE=x"},
		"no /proc":                 {noProc, "", 111, "/proc"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "no /proc" && exec.Command("unshare", "-m", "/bin/sh", "-c", "umount -l /proc").Run() != nil {
				t.Skip("no mount namespace may be made here")
			}
			ctx, cancel := context.WithTimeout(t.Context(), mastertest.Timeout)
			defer cancel()
			cmd := exec.CommandContext(ctx, tt.args[0], tt.args[1:]...)
			cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), tt.env)
			out, err := cmd.CombinedOutput()
			var e *exec.ExitError
			if !errors.As(err, &e) || e.ExitCode() != tt.code || !strings.Contains(string(out), tt.want) {
				t.Errorf("%v: %s, want exit code %d and the word %s", err, out, tt.code, tt.want)
			}
		})
	}
}
