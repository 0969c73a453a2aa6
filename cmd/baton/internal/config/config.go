package config

import (
	"time"

	"baton/master"
)

// File is the config file: TOML, and these are all of its keys. Unknown keys are errors. Durations are in quotes, as
// "90s", "1m30s" or "500ms". Relative paths are relative to the file's directory. The defaults are those of
// [Defaults]. A file has at most 16 MB; what numbers may be, and why, is
// in limits.go here and in package master.
type File struct {
	// Workers is how many worker processes serve: a number, or "auto", the CPUs that this process may use.
	// Default "auto". (--workers)
	Workers any `toml:"workers"`

	// WorkerCPUs is how many CPUs a worker uses at once (its GOMAXPROCS). 0, the default, is the CPUs divided by the
	// workers, at least 1.
	WorkerCPUs int `toml:"worker_cpus"`

	// DrainTimeout is how long an old generation may finish its work before it is cut. It should not be below
	// http.idle_timeout: clients of idle TLS connections then see them closed earlier than usual. Default "90s".
	DrainTimeout Duration `toml:"drain_timeout"`

	// StopTimeout is the same when everything stops, after INT and TERM. Default "8s".
	StopTimeout Duration `toml:"stop_timeout"`

	// ReadyTimeout is how long a new worker may take until it is ready; after that the reload has failed, and the
	// old generation serves on. Default "10s".
	ReadyTimeout Duration `toml:"ready_timeout"`

	// MaxGenerations is how many old generations may drain at once; beyond it the oldest is cut, two seconds later, or at
	// once if there are more than twice as many. Default 8.
	MaxGenerations int `toml:"max_generations"`

	// HangTimeout is how long a worker may give no sign of life before it is killed and replaced: because it was stopped,
	// or its process, its accept loop or all of its CPUs are stuck; not because requests take long. At least "1s", or
	// "0s", the default: for ever.
	HangTimeout Duration `toml:"hang_timeout"`

	// MaxRequests is after about how many requests a worker is replaced: another one is started in its slot, and when that
	// one serves the old one drains, one slot at a time. Each process may have up to a tenth less, by chance. 0, the
	// default: never.
	MaxRequests int `toml:"max_requests"`

	// MaxAge is after about how long a worker is replaced, in the same way. "0s", the default: never.
	MaxAge Duration `toml:"max_age"`

	// MaxMemory is beyond about how many bytes of resident memory (RSS, as ps shows it) a worker is replaced, in the same
	// way. It is looked at once a second. A limit that a new worker is above as well is of no use: status says so, and
	// the pauses between replacements grow to five minutes. 0, the default: never.
	MaxMemory int `toml:"max_memory"`

	// MaxConnections is how many connections one worker takes. What comes beyond waits in the kernel, where other workers
	// may take it; if nobody does, the connections that have been idle for longest are closed for it. 0, the default:
	// what the limit of open files allows, which is that less an eighth (32 to 1024) for files and upstreams.
	MaxConnections int `toml:"max_connections"`

	// User is whom the workers run as: a name, or a number in quotes. They then have no capabilities, and nothing that
	// they execute gives them more (no_new_privs). Only root can set somebody else, and root itself cannot be set.
	// Default: whoever started baton, with the same privileges.
	User string `toml:"user"`

	// Group is their group. Default: the user's own. They are in the other groups of which the user is a member, too.
	Group string `toml:"group"`

	runAs *master.User // what User and Group mean

	// Control is the path of the control socket, for `baton reload` and the other commands; "" is none. Default
	// "baton.sock" in the directory where baton was started, or $BATON_CONTROL. (--control)
	Control string `toml:"control"`

	// PIDFile is where the PID of the process that you started is written. Default: nowhere. (--pid-file)
	PIDFile string `toml:"pid_file"`

	// LogFile is what the log is appended to; USR1 opens it anew. Default: standard error.
	LogFile string `toml:"log_file"`

	// LogFormat is "text", the default, or "json".
	LogFormat string `toml:"log_format"`

	// Watch is whether a change of this file is a reload. Default true. (--watch)
	Watch bool `toml:"watch"`

	// Listen are the sockets. Without any: 127.0.0.1:8080.
	Listen []Listen `toml:"listen"`

	// HTTP holds the limits of the HTTP protocol.
	HTTP HTTP `toml:"http"`

	// Routes are what is answered. Without any: a built-in page at "/" and whoami at "/whoami".
	Routes []Route `toml:"route"`
}

// Listen is one [[listen]] table.
type Listen struct {
	// Name is how logs and status name it. Default: the address.
	Name string `toml:"name"`

	// Address is "host:port" or "unix:/path". An empty host, or [::], is every address of the machine, 0.0.0.0 every one
	// of IPv4; of several that overlap a connection goes to the narrowest. Port 0 is one that the
	// kernel chooses. Required. (--host, --port)
	Address string `toml:"address"`

	// Transport is "tcp", "tls" or "udp". Default "tcp".
	Transport string `toml:"transport"`

	// Process is the protocol that is spoken: "http", "echo" or "websocket-echo". Over udp there is "echo". Default "http".
	Process string `toml:"process"`

	// ReusePort gives every worker a queue of its own (SO_REUSEPORT). Default false.
	ReusePort bool `toml:"reuse_port"`

	// Handover is whether idle connections move to the next generation: HTTP/1.1 and echo, without tls. Default true.
	Handover *bool `toml:"handover"`

	// TLS is required with transport "tls", and goes with no other.
	TLS *TLS `toml:"tls"`
}

// TLS is the tls table of a [[listen]].
type TLS struct {
	// Cert and Key are PEM files. They are read by the master, at every reload.
	Cert string `toml:"cert"`
	Key  string `toml:"key"`

	cert, key   []byte    // what the files say
	from, until time.Time // in which the certificate is valid
}

// HTTP is the [http] table.
type HTTP struct {
	// ReceiveTimeout is from a request's first byte to the end of its header. Default "2s". (--timeout-ms)
	ReceiveTimeout Duration `toml:"receive_timeout"`

	// IdleTimeout is how long a connection may be silent between requests, or before its first one; before a TLS handshake
	// at most 10 s. Default "75s".
	IdleTimeout Duration `toml:"idle_timeout"`

	// BodyTimeout is how long a request's body may pause between two reads of it. "0s": for ever. Default "60s".
	BodyTimeout Duration `toml:"body_timeout"`

	// SendTimeout is how long a client may take nothing of an answer, between two writes that it takes. "0s": for ever.
	// Default "60s".
	SendTimeout Duration `toml:"send_timeout"`

	// UpstreamTimeout is how long an upstream may take to begin its answer, beyond it the answer is 504; and how long it
	// may pause within its answer, which is then broken off. "0s": for ever. Default "60s".
	UpstreamTimeout Duration `toml:"upstream_timeout"`

	// MaxHeaderSize is the largest header in bytes, exactly; a larger one is answered with 431. Default 8192.
	// (--max-header-size)
	MaxHeaderSize int `toml:"max_header_size"`
}

// Route is one [[route]] table. Exactly one of whoami, static, proxy, respond and echo is set; see site.Route for what
// they do.
type Route struct {
	// Path begins with "/" and stands for everything below it, too; the longest path wins. Required.
	Path string `toml:"path"`

	// Whoami answers with the worker's generation, slot, pid and version, as JSON.
	Whoami bool `toml:"whoami"`

	// Static is a directory.
	Static string `toml:"static"`

	// Proxy is the URL of an upstream.
	Proxy string `toml:"proxy"`

	// Respond is a text; Status is its status, by default 200, and Delay how long to wait before, by default "0s".
	Respond *string  `toml:"respond"`
	Status  int      `toml:"status"`
	Delay   Duration `toml:"delay"`

	// Echo answers with the request's body.
	Echo bool `toml:"echo"`
}

// Defaults is the file that says nothing.
func Defaults() File {
	return File{
		Workers:        "auto",
		DrainTimeout:   Duration(90 * time.Second),
		StopTimeout:    Duration(8 * time.Second),
		ReadyTimeout:   Duration(10 * time.Second),
		MaxGenerations: 8,
		LogFormat:      "text",
		Watch:          true,
		HTTP: HTTP{
			ReceiveTimeout:  Duration(2 * time.Second),
			IdleTimeout:     Duration(75 * time.Second),
			BodyTimeout:     Duration(60 * time.Second),
			SendTimeout:     Duration(60 * time.Second),
			UpstreamTimeout: Duration(60 * time.Second),
			MaxHeaderSize:   8192,
		},
	}
}

// Duration is a time.Duration that is written as a text.
type Duration time.Duration

// UnmarshalText reads what time.ParseDuration does.
func (d *Duration) UnmarshalText(b []byte) error {
	t, err := time.ParseDuration(string(b))
	*d = Duration(t)
	return err
}

// Std is d as the standard library has it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

func (d Duration) String() string { return time.Duration(d).String() }

// RunAs is what User and Group mean; nil without them.
func (f *File) RunAs() *master.User { return f.runAs }
