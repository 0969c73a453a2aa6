package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
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

// loader makes the configuration of a generation out of the flags and the file. Loading has no effect on anything, and
// may happen any number of times.
type loader struct {
	flags *runFlags
	dir   string // flags and defaults are relative to it
}

func newLoader(r *runFlags) (*loader, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("working directory: %w", err)
	}
	return &loader{r, dir}, nil
}

// Load is master.Options.Load.
func (l *loader) Load(context.Context) (master.Config, error) {
	f, warnings, err := l.load(l.configPath())
	if err != nil {
		return master.Config{}, err
	}
	c, err := l.config(f)
	c.Warnings = warnings
	return c, err
}

// configPath is absolute, or "" without a file. Its links are followed anew by every load.
func (l *loader) configPath() string { return config.Absolute(l.dir, l.flags.config) }

// load reads the file, once, and lays the flags over it. name is what messages call it.
func (l *loader) load(name string) (f config.File, warnings []string, err error) {
	f = config.Defaults()
	var x *config.Index
	var pipe bool
	if path := l.configPath(); path != "" {
		var doc []byte
		if doc, pipe, err = readConfig(path); err != nil {
			return f, nil, err
		}
		if f, x, err = config.Parse(name, doc, filepath.Dir(path)); err != nil {
			return f, nil, err
		}
	}
	if x == nil || !x.Has("control") {
		f.Control = cmp.Or(os.Getenv(controlEnv), defaultControl)
	}
	if warnings, err = l.flags.overlay(&f, x); err != nil {
		return f, nil, err
	}
	f.Watch = f.Watch && !pipe
	f.Control, f.PIDFile = config.Absolute(l.dir, f.Control), config.Absolute(l.dir, f.PIDFile)
	if len(f.Listen) == 0 {
		f.Listen = []config.Listen{defaultListen()}
	}
	if len(l.flags.overrides) > 0 { // else nothing has changed since the file was read
		if wrong := master.CheckListen(listensOf(&f), l.dir); len(wrong) > 0 {
			return f, nil, wrong[0]
		}
	}
	if err := l.checkFiles(&f, x); err != nil {
		return f, nil, err
	}
	if err := f.CheckPaths(x, l.configPath(), l.flags.sets); err != nil {
		return f, nil, err
	}
	return f, append(warnings, f.Doubts(time.Now())...), nil
}

// checkFiles says which files cannot be made, and where that was asked for.
func (l *loader) checkFiles(f *config.File, x *config.Index) error {
	var ms mistakes
	c := master.Config{Control: f.Control, PIDFile: f.PIDFile, LogFile: f.LogFile, Listen: listensOf(f)}
	for _, e := range master.CheckFiles(c) {
		path := fmt.Sprintf("listen.%d.address", e.Index)
		if p, ok := map[string]string{"Control": "control", "PIDFile": "pid_file", "LogFile": "log_file"}[e.Field]; ok {
			path = p
		}
		key := path[strings.LastIndexByte(path, '.')+1:]
		if flag := l.flags.over(path); flag != "" {
			ms.First = append(ms.First, &mistake{What: fmt.Sprintf("--%s: %v", flag, e.Err)})
		} else {
			ms.First = append(ms.First, x.Mistake(path, fmt.Sprintf("%s: %v", key, e.Err), ""))
		}
	}
	if len(ms.First) == 0 {
		return nil
	}
	return ms
}

// readConfig says whose mistake it is that the file cannot be read.
func readConfig(path string) (doc []byte, pipe bool, err error) {
	doc, pipe, err = config.ReadFile(path)
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return nil, false, &mistake{What: fmt.Sprintf("config: %v", err), Hint: "--config names a file"}
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ENOTDIR) {
		return nil, false, &mistake{What: fmt.Sprintf("config: %v", err), Hint: "--config names the file"}
	}
	if err != nil {
		return nil, false, &trouble{err: fmt.Errorf("config: %w", err)}
	}
	return doc, pipe, nil
}

// config is f as the master wants it.
func (l *loader) config(f config.File) (master.Config, error) {
	p, err := wire.Marshal(payloadOf(&f))
	if err != nil {
		return master.Config{}, fmt.Errorf("config: payload: %w", err)
	}
	c := master.Config{
		WorkerCPUs: f.WorkerCPUs, DrainTimeout: f.DrainTimeout.Std(), StopTimeout: f.StopTimeout.Std(),
		ReadyTimeout: f.ReadyTimeout.Std(), MaxGenerations: f.MaxGenerations, MaxConnections: f.MaxConnections,
		MaxRequests: f.MaxRequests, MaxAge: f.MaxAge.Std(), MaxMemory: int64(f.MaxMemory), HangTimeout: f.HangTimeout.Std(),
		Control: f.Control, PIDFile: f.PIDFile, LogFile: f.LogFile, LogFormat: f.LogFormat, User: f.RunAs(), Payload: p,
	}
	if n, ok := f.Workers.(int64); ok {
		c.Workers = int(n) // "auto" is 0
	}
	if f.Watch && l.flags.config != "" {
		c.Watch = append([]string{l.configPath()}, f.CertificateFiles()...)
	}
	c.Listen = listensOf(&f)
	return c, nil
}

func listensOf(f *config.File) (all []master.Listen) {
	for _, ln := range f.Listen {
		all = append(all, master.Listen{
			Name: ln.Name, Address: ln.Address, Transport: ln.Transport, Process: cmp.Or(ln.Process, "http"),
			ReusePort: ln.ReusePort, NoHandover: ln.Handover != nil && !*ln.Handover,
		})
	}
	return all
}

func payloadOf(f *config.File) payload {
	p := payload{
		IdleTimeout: f.HTTP.IdleTimeout.Std(), ReceiveTimeout: f.HTTP.ReceiveTimeout.Std(), MaxHeaderSize: f.HTTP.MaxHeaderSize,
		BodyTimeout: f.HTTP.BodyTimeout.Std(), SendTimeout: f.HTTP.SendTimeout.Std(),
		Site: site.Config{UpstreamTimeout: f.HTTP.UpstreamTimeout.Std()},
	}
	for _, ln := range f.Listen {
		if ln.TLS != nil {
			p.Certificates = append(p.Certificates, listenerCertificate(ln))
		}
	}
	for _, r := range f.Routes {
		p.Site.Routes = append(p.Site.Routes, site.Route{
			Path: r.Path, Whoami: r.Whoami, Static: r.Static, Proxy: r.Proxy, Respond: r.Respond, Status: r.Status,
			Delay: r.Delay.Std(), Echo: r.Echo,
		})
	}
	return p
}
