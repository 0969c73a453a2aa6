package main

import (
	"errors"
	"fmt"
	"strconv"

	"baton/cmd/baton/internal/config"
	"baton/cmd/baton/internal/manual"
)

// A flagDef is a flag, of one command or of several. A switch needs none of its functions: see [call.on].
type flagDef struct {
	manual.Flag
	store func(*call, string) error        // takes a value of the call, or
	file  func(*config.File, string) error // sets a key of the config file, over which the flag wins
	key   string                           // that file sets
	hint  string                           // to an invalid value
}

const autoHint = "auto takes the CPUs that baton may use"

// serverFlags are the flags of run, and of what reads the configuration as run does.
var serverFlags = []flagDef{
	configFlag,
	{
		Flag: manual.Flag{
			Name: "host", Value: "HOST",
			About: `listen on this address; default 127.0.0.1, "" is every address of the machine`,
		},
		file: setHost, key: "listen.0.address", hint: `as 127.0.0.1, ::1, or "" for every address of the machine`,
	},
	{
		Flag: manual.Flag{Name: "port", Value: "PORT", About: "listen on this port; default 8080, 0 lets the kernel choose"},
		file: setPort, key: "listen.0.address",
	},
	workersFlag("workers", "worker processes; default auto, one for each CPU"),
	workersFlag("worker", "the same as --workers"),
	{
		Flag: manual.Flag{
			Name: "timeout-ms", Value: "N",
			About: "limit from a request's first byte to the end of its header; default 2000",
		},
		file: setTimeout, key: "http.receive_timeout", hint: "as 2000",
	},
	{
		Flag: manual.Flag{
			Name: "max-header-size", Value: "N",
			About: "bytes of the largest header, others are answered with 431; default 8192",
		},
		file: setMaxHeader, key: "http.max_header_size", hint: "as 8192",
	},
	{
		Flag: manual.Flag{
			Name: "control", Value: manual.Socket, About: `the control socket; default baton.sock, "" is none`,
		},
		file: func(f *config.File, s string) error { f.Control = s; return nil }, key: "control",
	},
	{
		Flag: manual.Flag{
			Name: "pid-file", Value: manual.File, About: "the file that gets the PID of the process that you start",
		},
		file: func(f *config.File, s string) error { f.PIDFile = s; return nil }, key: "pid_file",
	},
	{
		Flag: manual.Flag{
			Name: "watch", Value: "=false", About: "do not reload when the config file or a certificate changes",
		},
		file: setWatch, key: "watch",
	},
}

// clientFlags are the flags of what talks to a baton that runs.
var clientFlags = []flagDef{
	{
		Flag:  manual.Flag{Name: "control", Value: manual.Socket, About: "the control socket"},
		store: func(c *call, s string) error { c.control = s; return nil },
	},
	configFlag,
}

var configFlag = flagDef{
	Flag: manual.Flag{Name: "config", Value: manual.File, About: "the config file (TOML)"},
	store: func(c *call, s string) error {
		if c.config = s; s == "" {
			return errors.New("want the path of a file")
		}
		return nil
	},
	hint: config.HintNoFile,
}

var waitFlags = []flagDef{{
	Flag: manual.Flag{
		Name: "wait", About: "return when every older generation is gone, and say what was cut of them",
	},
}}

var jsonFlags = []flagDef{{Flag: manual.Flag{Name: "json", About: "print JSON"}}}

func workersFlag(name, about string) flagDef {
	return flagDef{
		Flag: manual.Flag{Name: name, Value: "N", About: about}, file: setWorkers, key: "workers", hint: autoHint,
	}
}

func setWatch(f *config.File, s string) (err error) {
	if f.Watch, err = strconv.ParseBool(s); err != nil {
		return fmt.Errorf("%q: want true or false", s)
	}
	return nil
}
