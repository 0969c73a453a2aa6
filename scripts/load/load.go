package load

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config says what is sent where. Target and Classes are needed; the rest has defaults.
type Config struct {
	// Target is "host:port", "unix:/path", or "udp:host:port" for clients of class datagram.
	Target string

	// Classes are the clients.
	Classes []ClassCount

	// Duration ends the run. If 0, only the context does.
	Duration time.Duration

	// MinPause and MaxPause bound the random pause of a client between two turns. If both are 0, 0 to 20 ms;
	// a negative MaxPause is no pause.
	MinPause, MaxPause time.Duration

	// Timeout is for connecting, and for each wait for the server; what takes longer is a [Hang]. If 0, 30 seconds.
	Timeout time.Duration

	// MaxIdle is how long a client of class aged leaves its connection idle before it asks. It should be below the
	// server's idle timeout. If 0, 20 seconds.
	MaxIdle time.Duration

	// LateAfter is how long connecting may take before it counts as late. If 0, one second, after which a lost SYN
	// is sent again.
	LateAfter time.Duration

	// Look makes a client look, before each turn, whether its kept connection was closed while it waited, and open
	// another one then. So do most clients; what is lost even so is what the server's close and the request met each
	// other for. Without it, a request on such a connection is a failure like any other.
	Look bool

	// Path is what is read. If empty, "/".
	Path string

	// EchoPath is where a body that is sent comes back. If empty, "/echo".
	EchoPath string

	// LargePath is what is downloaded, and Large its content; if nil, it is not compared. If the path is empty, Path.
	LargePath string
	Large     []byte

	// ReadPause is how long a slow reader waits before it takes the next 32 KB. If 0, 10 ms.
	ReadPause time.Duration

	// Host is what the header of that name says. If empty, the target.
	Host string

	// Seed makes the chances of all clients the same again. If 0, they are new ones.
	Seed uint64

	// TLS, if not nil, makes every connection a TLS one. Look has no effect then.
	TLS *tls.Config

	// Excuse, if not nil, is asked for every failure, by several goroutines at the same time. If it returns a word, the
	// failure is counted apart under that word: as what was bound to fail, because its server was killed.
	Excuse func(Failure) string

	// OnResponse, if not nil, is called for each answer, by several goroutines at the same time.
	OnResponse func(*Response)
}

// ClassCount is a number of clients of a class.
type ClassCount struct {
	Class Class
	Count int
}

// Mix is what most tests use: short-lived clients, and readers and writers on kept connections.
func Mix(short, readers, writers int) []ClassCount {
	return []ClassCount{
		{Classes()[0], short},
		{Classes()[1], readers},
		{Classes()[2], writers},
	}
}

// ParseClasses reads "new=4,reader=16,writer=16".
func ParseClasses(text string) ([]ClassCount, error) {
	var counts []ClassCount
	for part := range strings.SplitSeq(text, ",") {
		name, number, found := strings.Cut(strings.TrimSpace(part), "=")
		class, err := FindClass(name)
		if err != nil {
			return nil, err
		}
		n := 1
		if found {
			if n, err = strconv.Atoi(number); err != nil || n < 1 {
				return nil, fmt.Errorf("%s: not a number of clients: %q", name, number)
			}
		}
		counts = append(counts, ClassCount{class, n})
	}
	return counts, nil
}

// withDefaults fills in what is not said.
func (cfg Config) withDefaults() *Config {
	if cfg.MinPause == 0 && cfg.MaxPause == 0 {
		cfg.MaxPause = 20 * time.Millisecond
	}
	cfg.MaxPause = max(cfg.MaxPause, cfg.MinPause, 0)
	for _, d := range []struct {
		value *time.Duration
		or    time.Duration
	}{
		{&cfg.Timeout, 30 * time.Second},
		{&cfg.LateAfter, time.Second},
		{&cfg.MaxIdle, 20 * time.Second},
		{&cfg.ReadPause, 10 * time.Millisecond},
	} {
		if *d.value == 0 {
			*d.value = d.or
		}
	}
	for _, s := range []struct {
		value *string
		or    string
	}{
		{&cfg.Path, "/"},
		{&cfg.EchoPath, "/echo"},
		{&cfg.LargePath, cfg.Path},
		{&cfg.LargePath, "/"},
		{&cfg.Host, cfg.Target},
	} {
		if *s.value == "" {
			*s.value = s.or
		}
	}
	if strings.HasPrefix(cfg.Host, "unix:") {
		cfg.Host = "localhost"
	}
	if cfg.Seed == 0 {
		cfg.Seed = rand.Uint64()
	}
	return &cfg
}

// Runner is a run in progress.
type Runner struct {
	cfg     *Config
	started time.Time
	answers atomic.Int64
	stop    context.CancelFunc
	done    sync.WaitGroup
	tallies []*tally
}

// Start starts the clients. They go on until the context ends, the run's duration is over, or [Runner.Stop].
func Start(ctx context.Context, config Config) *Runner {
	r := &Runner{cfg: config.withDefaults(), started: time.Now()}
	if r.cfg.Duration > 0 {
		ctx, r.stop = context.WithTimeout(ctx, r.cfg.Duration)
	} else {
		ctx, r.stop = context.WithCancel(ctx)
	}
	for _, cc := range r.cfg.Classes {
		for range cc.Count {
			t := newTally(cc.Class.Name)
			c := &Client{
				cfg: r.cfg, class: cc.Class, ctx: ctx, tally: t, run: r,
				rand: rand.New(rand.NewPCG(r.cfg.Seed, uint64(len(r.tallies)))),
			}
			r.tallies = append(r.tallies, t)
			r.done.Go(c.takeTurns)
		}
	}
	return r
}

// Answers is how many good answers came so far.
func (r *Runner) Answers() int64 { return r.answers.Load() }

// Stop ends the run and returns what came of it. Each client finishes what it has begun.
func (r *Runner) Stop() *Report {
	r.stop()
	return r.Wait()
}

// Wait waits for the end of the run.
func (r *Runner) Wait() *Report {
	r.done.Wait()
	r.stop()
	return newReport(r)
}

// Run runs until the context ends or the duration is over.
func Run(ctx context.Context, config Config) *Report { return Start(ctx, config).Wait() }
