package mastertest

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
)

// Result is how a command ended.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// CLI runs a command of the binary in the directory, `baton status` for one, and waits for its end. It fails the test
// if that does not come.
func (b *Baton) CLI(args ...string) Result {
	b.tb.Helper()
	return b.StartCLI(args...)()
}

// StartCLI starts a command and returns what waits for it.
func (b *Baton) StartCLI(args ...string) (wait func() Result) {
	b.tb.Helper()
	var stdout, stderr bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), 2*Timeout)
	// Not the binary in the directory: that one may be broken, and its processes count as the tree.
	cmd := exec.CommandContext(ctx, b.tool, args...)
	cmd.Env = environment()
	cmd.Dir, cmd.Stdout, cmd.Stderr = b.Dir, &stdout, &stderr
	if err := cmd.Start(); err != nil {
		cancel()
		b.tb.Fatal(err)
	}
	return func() Result {
		b.tb.Helper()
		defer cancel()
		err := cmd.Wait()
		if ctx.Err() != nil {
			b.tb.Errorf("%v does not end", args)
		}
		if e := (*exec.ExitError)(nil); err != nil && !errors.As(err, &e) {
			b.tb.Errorf("%v: %v", args, err)
		}
		return Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
	}
}

// Reload is `baton reload`; the test fails if it fails.
func (b *Baton) Reload(args ...string) Result {
	b.tb.Helper()
	r := b.CLI(append([]string{"reload"}, args...)...)
	if r.Code != 0 {
		b.tb.Errorf("baton reload: exit code %d, %s%s", r.Code, r.Stdout, r.Stderr)
	}
	return r
}
