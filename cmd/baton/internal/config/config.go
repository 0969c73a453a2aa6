// Package config reads baton's config file: TOML becomes a [File], or [UsageErrors] with line, column and what was
// probably meant. reference.toml documents every key.
//
// [Parse] takes three steps, each of which relies on the one before: the [Index] of where every key is, held against
// the schema; decoding; and checks of the values. It reads the certificates that the file names, looks up users and
// directories, and changes nothing.
package config

import (
	"bytes"
	_ "embed"
	"fmt"
	"time"

	"github.com/pelletier/go-toml/v2"

	"baton/master"
)

// reference is the config file that sets every key that has a default to it, with the documentation of all keys.
//
//go:embed reference.toml
var reference []byte

// Reference returns a file that documents every key and sets it to its default.
func Reference() []byte { return bytes.Clone(reference) }

// File is the config file. Its fields are the keys that there are.
type File struct {
	Workers        any       `toml:"workers"` // an int64, or "auto"
	WorkerCPUs     int       `toml:"worker_cpus"`
	DrainTimeout   Duration  `toml:"drain_timeout"`
	StopTimeout    Duration  `toml:"stop_timeout"`
	ReadyTimeout   Duration  `toml:"ready_timeout"`
	MaxGenerations int       `toml:"max_generations"`
	HangTimeout    Duration  `toml:"hang_timeout"`
	MaxRequests    int       `toml:"max_requests"`
	MaxAge         Duration  `toml:"max_age"`
	MaxMemory      int       `toml:"max_memory"`
	MaxConnections int       `toml:"max_connections"`
	User           string    `toml:"user"`
	Group          string    `toml:"group"`
	Control        string    `toml:"control"`
	PIDFile        string    `toml:"pid_file"`
	LogFile        string    `toml:"log_file"`
	LogFormat      string    `toml:"log_format" words:"text,json"`
	LogLevel       string    `toml:"log_level" words:"debug,info,warn,error"`
	Watch          bool      `toml:"watch"`
	Listen         []Listen  `toml:"listen"`
	HTTP           HTTP      `toml:"http"`
	Routes         []Route   `toml:"route"`
	Programs       []Program `toml:"program"`

	runAs *master.User // what User and Group mean
}

// Listen is one [[listen]] table.
type Listen struct {
	Name      string `toml:"name"`
	Address   string `toml:"address"`
	Transport string `toml:"transport" words:"tcp,tls,udp"`
	Process   string `toml:"process" words:"http,echo,websocket-echo"`
	ReusePort bool   `toml:"reuse_port"`
	Handover  *bool  `toml:"handover"`
	TLS       *TLS   `toml:"tls"`
}

// TLS is the tls table of a [[listen]].
type TLS struct {
	Cert string `toml:"cert"`
	Key  string `toml:"key"`

	cert, key   []byte    // what the files say
	from, until time.Time // in which the certificate is valid
}

// HTTP is the [http] table.
type HTTP struct {
	ReceiveTimeout  Duration `toml:"receive_timeout"`
	IdleTimeout     Duration `toml:"idle_timeout"`
	BodyTimeout     Duration `toml:"body_timeout"`
	SendTimeout     Duration `toml:"send_timeout"`
	UpstreamTimeout Duration `toml:"upstream_timeout"`
	TrustedProxies  []string `toml:"trusted_proxies"`
	MaxHeaderSize   int      `toml:"max_header_size"`
}

// Route is one [[route]] table, see site.Route.
type Route struct {
	Path    string   `toml:"path"`
	Whoami  bool     `toml:"whoami"`
	Static  string   `toml:"static"`
	Proxy   string   `toml:"proxy"`
	Program string   `toml:"program"`
	Respond *string  `toml:"respond"`
	Status  int      `toml:"status"`
	Delay   Duration `toml:"delay"`
	Echo    bool     `toml:"echo"`
}

// Program is one [[program]] table, see program.Program.
type Program struct {
	Name       string            `toml:"name"`
	Command    []string          `toml:"command"`
	Dir        string            `toml:"dir"`
	Env        map[string]string `toml:"env"`
	Health     string            `toml:"health"`
	StopSignal string            `toml:"stop_signal"`
	Log        string            `toml:"log" words:"lines,raw"`
}

// Defaults returns the file that sets nothing.
func Defaults() (f File) {
	if err := toml.Unmarshal(reference, &f); err != nil {
		panic(fmt.Sprintf("reference.toml: %v", err))
	}
	return f
}

// RunAs returns what User and Group mean; nil without them.
func (f *File) RunAs() *master.User { return f.runAs }

// Duration is a time.Duration that is written as a text.
type Duration time.Duration

// UnmarshalText reads what time.ParseDuration does.
func (d *Duration) UnmarshalText(b []byte) error {
	t, err := time.ParseDuration(string(b))
	*d = Duration(t)
	return err
}

// Std returns d as the standard library has it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

func (d Duration) String() string { return time.Duration(d).String() }
