package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"baton/http/site"
	"baton/master"
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
func (l *loader) configPath() string { return absolute(l.dir, l.flags.config) }

// load reads the file, once, and lays the flags over it. name is what messages call it.
func (l *loader) load(name string) (f File, warnings []string, err error) {
	f = defaults()
	var x *index
	if path := l.configPath(); path != "" {
		doc, err := readConfig(path)
		if err != nil {
			return f, nil, err
		}
		if f, x, err = parseFile(name, doc, filepath.Dir(path)); err != nil {
			return f, nil, err
		}
	}
	if x == nil || !x.has("control") {
		f.Control = cmp.Or(os.Getenv(controlEnv), defaultControl)
	}
	if warnings, err = l.flags.overlay(&f, x); err != nil {
		return f, nil, err
	}
	f.Control, f.PIDFile = absolute(l.dir, f.Control), absolute(l.dir, f.PIDFile)
	if len(f.Listen) == 0 {
		f.Listen = []Listen{defaultListen()}
	}
	return f, append(warnings, f.doubts()...), nil
}

// readConfig says whose mistake it is that the file cannot be read.
func readConfig(path string) ([]byte, error) {
	doc, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ENOTDIR) {
		return nil, &mistake{What: fmt.Sprintf("config: %v", err), Hint: "--config names the file"}
	}
	if err != nil {
		return nil, &trouble{err: fmt.Errorf("config: %w", err)}
	}
	return doc, nil
}

// doubts are what is allowed and hardly meant.
func (f *File) doubts() []string {
	var all []string
	if f.DrainTimeout < f.HTTP.IdleTimeout {
		all = append(all, fmt.Sprintf("drain_timeout (%s) is below http.idle_timeout (%s): a reload may close idle connections "+
			"that cannot be handed over earlier than their clients expect", f.DrainTimeout, f.HTTP.IdleTimeout))
	}
	if err := f.runAs.MayStart(); err != nil {
		all = append(all, err.Error())
	}
	return all
}

// config is f as the master wants it.
func (l *loader) config(f File) (master.Config, error) {
	p, err := json.Marshal(f.payload())
	if err != nil {
		return master.Config{}, fmt.Errorf("config: payload: %w", err)
	}
	c := master.Config{
		WorkerCPUs: f.WorkerCPUs, DrainTimeout: f.DrainTimeout.std(), StopTimeout: f.StopTimeout.std(),
		ReadyTimeout: f.ReadyTimeout.std(), MaxGenerations: f.MaxGenerations, MaxConnections: f.MaxConnections,
		MaxRequests: f.MaxRequests, MaxAge: f.MaxAge.std(), MaxMemory: int64(f.MaxMemory), HangTimeout: f.HangTimeout.std(),
		Control: f.Control, PIDFile: f.PIDFile, LogFile: f.LogFile, LogFormat: f.LogFormat, User: f.runAs, Payload: p,
	}
	if n, ok := f.Workers.(int64); ok {
		c.Workers = int(n) // "auto" is 0
	}
	if f.Watch && l.flags.config != "" {
		c.Watch = append([]string{l.configPath()}, f.certificateFiles()...)
	}
	for _, ln := range f.Listen {
		c.Listen = append(c.Listen, master.Listen{
			Name: ln.Name, Address: ln.Address, Transport: ln.Transport, Process: cmp.Or(ln.Process, "http"),
			ReusePort: ln.ReusePort, NoHandover: ln.Handover != nil && !*ln.Handover,
		})
	}
	return c, nil
}

func (f *File) payload() payload {
	p := payload{
		IdleTimeout: f.HTTP.IdleTimeout.std(), ReceiveTimeout: f.HTTP.ReceiveTimeout.std(), MaxHeaderSize: f.HTTP.MaxHeaderSize,
		BodyTimeout: f.HTTP.BodyTimeout.std(), SendTimeout: f.HTTP.SendTimeout.std(),
		Site: site.Config{UpstreamTimeout: f.HTTP.UpstreamTimeout.std()},
	}
	for _, ln := range f.Listen {
		if ln.TLS != nil {
			p.Certificates = append(p.Certificates, ln.certificate())
		}
	}
	for _, r := range f.Routes {
		p.Site.Routes = append(p.Site.Routes, site.Route{
			Path: r.Path, Whoami: r.Whoami, Static: r.Static, Proxy: r.Proxy, Respond: r.Respond, Status: r.Status,
			Delay: r.Delay.std(), Echo: r.Echo,
		})
	}
	return p
}
