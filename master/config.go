package master

import (
	"log/slog"
	"runtime"
	"time"

	"baton/worker/wire"
)

// Config is what one generation serves, and how. It is the config of the running generation until the
// next one is committed, lives in the supervisor's registry in between, and must therefore be complete in
// itself: what workers need of a file is in Payload as bytes, never as a path to be read later
// (directories that are served are the exception).
//
// Zero values mean the defaults that the comments name.
type Config struct {
	// Listen are the sockets, at least one.
	Listen []Listen

	// Workers is the number of slots. If 0, the CPUs that this process may use.
	Workers int

	// WorkerCPUs is GOMAXPROCS of a worker. If 0, the CPUs divided by the workers, at least 1.
	WorkerCPUs int

	// DrainTimeout is how long an old generation may finish its work. If 0, 90 seconds.
	DrainTimeout time.Duration

	// StopTimeout is the same for INT and TERM. If 0, 8 seconds.
	StopTimeout time.Duration

	// ReadyTimeout is how long a new worker may take to say READY; then the reload fails. If 0, 10 seconds.
	ReadyTimeout time.Duration

	// MaxGenerations is how many generations may drain at once. Beyond it the oldest is cut: it has two seconds left
	// for its goodbye, and none if there are more than twice as many. If 0, 8.
	MaxGenerations int

	// HangTimeout is how long a worker may be without a heartbeat before it is killed, and another one takes its slot
	// as after a crash; workers that drain are watched as well. What is noticed, and what is not, is said at
	// worker.Env.OnHeartbeat. Shorter than a second, a busy machine may look like a hang. Nobody is blamed for a time
	// in which the master did not run either. If 0, no worker is watched.
	HangTimeout time.Duration

	// MaxConnections is how many connections a worker takes; what comes beyond waits in the kernel. If 0, what its
	// limit of open files allows: that, less an eighth (32 to 1024) for files and upstreams.
	MaxConnections int

	// MaxRequests is after how many requests a worker is replaced, MaxAge after how long, and MaxMemory beyond how many
	// bytes of resident memory (as ps shows it: what it shares with others counts as well), at which the master looks
	// once a second. If 0, never. For each process they are up to a tenth less, by chance, so that not all are due at
	// once.
	//
	// The new worker starts first and takes over when it is ready; the old one drains as in a reload. That is one slot
	// at a time: the next one's turn comes when the old worker has gone. A reload that is in progress is waited for.
	// Where it does not help, because the new worker fails or has as much memory at once, the pauses grow from a second
	// to five minutes, and status has a warning.
	MaxRequests int
	MaxAge      time.Duration
	MaxMemory   int64

	// Control is the path of the control socket. If empty, there is none.
	Control string

	// PIDFile is where the supervisor's PID is written. If empty, nowhere.
	PIDFile string

	// LogFile is what the log is appended to. If empty, standard error.
	LogFile string

	// LogFormat is "text" or "json". If empty, text.
	LogFormat string

	// LogLevel is the lowest level of the lines that are written. If 0, [slog.LevelInfo].
	LogLevel slog.Level

	// User is whom the workers run as, see [LookupUser]. If nil, as whoever started the program, with the same
	// privileges.
	User *User

	// Watch are files whose change is a reload. None: no watching.
	Watch []string

	// Warnings are said once when this configuration is committed, and shown by status.
	Warnings []string

	// Payload is given to every worker, see worker.Env.Payload. The master does not look into it.
	Payload []byte
}

// Listen is one socket.
type Listen struct {
	// Name is what routes, logs and worker.Env.Listener call it. If empty, the address.
	Name string

	// Address is "host:port" for TCP and UDP, or "unix:/path" (or an absolute path) for a Unix socket. An empty host
	// and "[::]" are every address of both families, "0.0.0.0" is every one of IPv4. See CheckListen for what overlaps.
	Address string

	// Transport is "tcp", "tls" or "udp". If empty, tcp. Unix sockets are stream sockets, under tcp or tls.
	Transport string

	// Process is the protocol spoken on it; the master only passes it on.
	Process string

	// ReusePort gives every slot a socket of its own, over TCP.
	ReusePort bool

	// NoHandover keeps idle connections in the generation that accepted them.
	NoHandover bool
}

func (c *Config) logStyle() wire.LogStyle {
	return wire.LogStyle{Format: c.LogFormat, Level: c.LogLevel}
}

func (c *Config) workers() int {
	if c.Workers > 0 {
		return c.Workers
	}
	return max(1, runtime.GOMAXPROCS(0))
}

// workerCPUs is GOMAXPROCS of each of n workers. The runtime's own default respects affinity and the cgroup's quota.
func (c *Config) workerCPUs(n int) int {
	if c.WorkerCPUs > 0 {
		return c.WorkerCPUs
	}
	return max(1, runtime.GOMAXPROCS(0)/max(1, n))
}

func orDuration(d, def time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return def
}

func (c *Config) drainTimeout() time.Duration { return orDuration(c.DrainTimeout, 90*time.Second) }
func (c *Config) stopTimeout() time.Duration  { return orDuration(c.StopTimeout, 8*time.Second) }
func (c *Config) readyTimeout() time.Duration { return orDuration(c.ReadyTimeout, 10*time.Second) }

func (c *Config) maxGenerations() int {
	if c.MaxGenerations > 0 {
		return c.MaxGenerations
	}
	return 8
}
