package main

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"baton/http/httpworker"
	"baton/http/program"
	"baton/http/websocket"
	"baton/worker"
	"baton/worker/wire"
)

// httpServer serves HTTP, with an instance of each program that a route names.
type httpServer struct{ programs map[string]*program.Runner }

// Serve is worker.Worker's. The programs are there before the worker is ready, and end when it has finished its
// requests.
func (srv *httpServer) Serve(ctx context.Context, env *worker.Env) error {
	defer srv.stop(env)
	return (&httpworker.Worker{Configure: srv.configure}).Serve(ctx, env)
}

// start runs the programs, all at once, and returns the handlers of the routes that name them.
func (srv *httpServer) start(env *worker.Env, p payload) (map[string]http.Handler, error) {
	srv.programs = map[string]*program.Runner{}
	handlers := map[string]http.Handler{}
	var mu sync.Mutex
	var all sync.WaitGroup
	var failed error
	used := p.used()
	for _, prog := range used {
		prog.Relay = websocket.Relay
		all.Go(func() {
			at := program.Place{Slot: env.Slot(), Generation: env.Generation(), Workers: env.Workers()}
			r, err := program.Run(context.Background(), &prog, at, env.Log) // the master limits the time
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = errors.Join(failed, err)
				return
			}
			srv.programs[prog.Name], handlers[prog.Name] = r, r
		})
	}
	all.Wait()
	if failed == nil && len(used) > 0 {
		first := used[0].Name
		env.Runs(func() wire.Instance { return srv.instance(first) })
	}
	return handlers, failed
}

// instance is what the status says: the first program's instance, and which of all has ended last.
func (srv *httpServer) instance(first string) wire.Instance {
	is := wire.Instance{Program: first, ProgramPID: srv.programs[first].PID()}
	for _, r := range srv.programs {
		n, last := r.Exits()
		is.ProgramExits += n
		if last != nil && (is.ProgramExit == nil || last.Ago < is.ProgramExit.Ago) {
			is.ProgramExit = last
		}
	}
	return is
}

// used are the programs that a route names.
func (p payload) used() (all []program.Program) {
	named := map[string]bool{}
	for _, r := range p.Site.Routes {
		named[r.Program] = true
	}
	for _, prog := range p.Programs {
		if named[prog.Name] {
			all = append(all, prog)
		}
	}
	return all
}

// stop ends the programs: as they like until the drain's deadline, and before it, if the worker has failed, at once.
func (srv *httpServer) stop(env *worker.Env) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if env.Deadline().IsZero() {
		cancel()
	}
	go func() {
		select {
		case <-env.Cut():
			cancel()
		case <-ctx.Done():
		}
	}()
	var all sync.WaitGroup
	for _, r := range srv.programs {
		all.Go(func() { r.Stop(ctx) })
	}
	all.Wait()
}
