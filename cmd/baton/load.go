package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"baton/cmd/baton/internal/config"
	"baton/http/site"
	"baton/master"
	"baton/worker/wire"
)

// controlEnv names the control socket where neither a flag nor the file does.
const controlEnv = "BATON_CONTROL"

// loader makes the configuration of a generation out of the flags and the file. Loading changes nothing, and may happen
// any number of times.
type loader struct {
	*call
	dir string // flags and defaults are relative to it
}

func newLoader(c *call) (*loader, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("working directory: %w", err)
	}
	return &loader{c, dir}, nil
}

// Load is master.Options.Load.
func (l *loader) Load(context.Context) (master.Config, error) {
	f, warnings, err := l.load(l.configPath())
	if err != nil {
		return master.Config{}, err
	}
	c, err := l.masterConfig(f)
	c.Warnings = warnings
	return c, err
}

// configPath is absolute, or "" without a file. Its links are followed anew by every load.
func (l *loader) configPath() string { return config.Absolute(l.dir, l.config) }

// load reads the file, once, and lays the flags over it. name is what messages call it.
func (l *loader) load(name string) (f config.File, warnings []string, err error) {
	f = config.Defaults()
	var x *config.Index
	pipe := false
	if path := l.configPath(); path != "" {
		var doc []byte
		if doc, pipe, err = readConfig(path); err != nil {
			return f, nil, err
		}
		if f, x, err = config.Parse(name, doc, filepath.Dir(path)); err != nil {
			return f, nil, err
		}
	}
	if !x.Has("control") {
		f.Control = cmp.Or(os.Getenv(controlEnv), defaultControl)
	}
	if warnings, err = l.overlay(&f, x); err != nil {
		return f, nil, err
	}
	if len(l.program) > 0 {
		if err := l.runProgram(&f, l.dir); err != nil {
			return f, nil, err
		}
	}
	f.Watch = f.Watch && !pipe
	f.Control, f.PIDFile = config.Absolute(l.dir, f.Control), config.Absolute(l.dir, f.PIDFile)
	if len(f.Listen) == 0 {
		f.Listen = []config.Listen{{Name: defaultAddress, Address: defaultAddress}}
	}
	return f, append(warnings, f.Warnings(time.Now())...), l.verify(&f, x)
}

// verify checks what the file and the flags say together.
func (l *loader) verify(f *config.File, x *config.Index) error {
	if len(l.overrides) > 0 { // else nothing has changed since the file was read
		if wrong := master.CheckListen(listensOf(f), l.dir); len(wrong) > 0 {
			return wrong[0]
		}
	}
	var errs config.UsageErrors
	files := master.Config{Control: f.Control, PIDFile: f.PIDFile, LogFile: f.LogFile, Listen: listensOf(f)}
	for _, e := range master.CheckFiles(files) {
		key := map[string]string{"Control": "control", "PIDFile": "pid_file", "LogFile": "log_file"}[e.Field]
		key = cmp.Or(key, fmt.Sprintf("listen.%d.address", e.Index))
		if flag := l.overriddenBy(key); flag != "" {
			errs.First = append(errs.First, &usageError{What: fmt.Sprintf("--%s: %v", flag, e.Err)})
		} else {
			name := key[strings.LastIndexByte(key, '.')+1:]
			errs.First = append(errs.First, x.Error(key, fmt.Sprintf("%s: %v", name, e.Err), ""))
		}
	}
	if len(errs.First) > 0 {
		return errs
	}
	return f.CheckPaths(x, l.configPath(), func(key string) bool { return l.overriddenBy(key) != "" })
}

// readConfig tells a path that the user has mistaken from trouble with the system.
func readConfig(path string) (doc []byte, pipe bool, err error) {
	doc, pipe, err = config.ReadFile(path)
	var usage *usageError
	switch {
	case err == nil:
		return doc, pipe, nil
	case errors.As(err, &usage), errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.EISDIR),
		errors.Is(err, syscall.ENOTDIR):
		return nil, false, &usageError{What: fmt.Sprintf("config: %v", err), Hint: "--config names the file"}
	}
	return nil, false, fmt.Errorf("config: %w", err)
}

// masterConfig returns f as the master wants it.
func (l *loader) masterConfig(f config.File) (master.Config, error) {
	p, err := wire.Marshal(payloadOf(&f))
	if err != nil {
		return master.Config{}, fmt.Errorf("config: payload: %w", err)
	}
	workers, _ := f.Workers.(int64) // "auto" is 0
	var level slog.Level
	_ = level.UnmarshalText([]byte(f.LogLevel)) // it is one of four words
	c := master.Config{
		Listen: listensOf(&f), Workers: int(workers), WorkerCPUs: f.WorkerCPUs, DrainTimeout: f.DrainTimeout.Std(),
		StopTimeout: f.StopTimeout.Std(), ReadyTimeout: f.ReadyTimeout.Std(), MaxGenerations: f.MaxGenerations,
		MaxConnections: f.MaxConnections, MaxRequests: f.MaxRequests, MaxAge: f.MaxAge.Std(),
		MaxMemory: int64(f.MaxMemory), HangTimeout: f.HangTimeout.Std(), Control: f.Control, PIDFile: f.PIDFile,
		LogFile: f.LogFile, LogFormat: f.LogFormat, LogLevel: level, User: f.RunAs(), Payload: p,
	}
	if f.Watch && l.config != "" {
		c.Watch = append([]string{l.configPath()}, f.CertificateFiles()...)
	}
	return c, nil
}

func listensOf(f *config.File) (all []master.Listen) {
	for _, l := range f.Listen {
		all = append(all, master.Listen{
			Name: l.Name, Address: l.Address, Transport: l.Transport, Process: cmp.Or(l.Process, "http"),
			ReusePort: l.ReusePort, NoHandover: l.Handover != nil && !*l.Handover,
		})
	}
	return all
}

func payloadOf(f *config.File) payload {
	p := payload{
		IdleTimeout: f.HTTP.IdleTimeout.Std(), ReceiveTimeout: f.HTTP.ReceiveTimeout.Std(),
		BodyTimeout: f.HTTP.BodyTimeout.Std(), SendTimeout: f.HTTP.SendTimeout.Std(),
		MaxHeaderSize: f.HTTP.MaxHeaderSize,
		Site: site.Config{
			UpstreamTimeout: f.HTTP.UpstreamTimeout.Std(), TrustedProxies: f.HTTP.TrustedProxies,
		},
	}
	for _, l := range f.Listen {
		if l.TLS != nil {
			cert, key := l.TLS.Pair()
			p.Certificates = append(p.Certificates, certificate{Listener: l.Name, Cert: cert, Key: key})
		}
	}
	for _, r := range f.Programs {
		p.Programs = append(p.Programs, r.Program(f))
	}
	for _, r := range f.Routes {
		p.Site.Routes = append(p.Site.Routes, r.Site())
	}
	return p
}
