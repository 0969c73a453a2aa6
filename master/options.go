package master

import "context"

// Options is what a program tells [Run]: everything but the configuration, which is loaded anew for
// every generation.
type Options struct {
	// Load returns the configuration as the files are now. It must not change anything: every new master calls it, and
	// again while the files change under its hands; the running one calls it to see whether changed files are good, and
	// whether they differ from what it runs. An error costs no more than the reload.
	//
	// It is called from several goroutines of a master, but never concurrently with itself, and os.Args are those of
	// the user whenever it is.
	//
	// An error may have a method ExitCode() int; it is the exit code if the very first Load fails
	// (100 for a user's mistake; 111 if there is no such method).
	Load func(ctx context.Context) (Config, error)

	// Version is shown by status.
	Version string

	// Explain turns an error into what a person reads when the start fails. If nil, err.Error() with the
	// program's name before it.
	Explain func(err error) string

	// Reason turns an error into what `baton reload` and status say of a failed reload. If nil, err.Error().
	Reason func(err error) string
}

// reason is the one-line text of an error, for logs and for those who asked for a reload.
func (o Options) reason(err error) string {
	if o.Reason != nil {
		return o.Reason(err)
	}
	return err.Error()
}
