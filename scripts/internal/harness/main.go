package harness

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// Main is the main function of a command that tries something until INT or TERM. It exits with 0 if run found nothing,
// 1 if it did or if it failed, and 100 if the arguments are wrong.
func Main[Options any](parse func(args []string) (Options, error), run func(context.Context, Options) (bool, error)) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	options, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		os.Exit(100) // the flag package has said why
	}
	ok, err := run(ctx, options)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}
