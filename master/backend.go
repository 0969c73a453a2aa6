package master

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/control"
	"baton/master/internal/sockets"
	"baton/worker/wire"
)

var errSuperseded = control.ErrSuperseded

// backend answers the control socket: every call is run on the master's loop.
type backend struct{ m *master }

// call runs f on the loop and waits until it has run.
func (b backend) call(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case b.m.calls <- func() { f(); close(done) }:
		<-done
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-b.m.ended:
		return errSuperseded
	}
}

// Reload asks the keeper for a reload and returns its id.
func (b backend) Reload(ctx context.Context) (int64, error) {
	reply := make(chan int64, 1)
	err := b.call(ctx, func() {
		b.m.lastTag++
		b.m.tags[b.m.lastTag] = reply
		_ = b.m.keeper.Post(wire.Request{Tag: b.m.lastTag, Source: "control"})
	})
	if err != nil {
		return 0, err
	}
	select {
	case id := <-reply:
		return id, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-b.m.ended:
		return 0, errSuperseded
	}
}

// Await waits until reload id has ended, with drained until no older generation is left.
func (b backend) Await(ctx context.Context, id int64, drained bool) (any, error) {
	reply := make(chan awaited, 1)
	if err := b.call(ctx, func() {
		b.m.waiters = append(b.m.waiters, waiter{ctx: ctx, id: id, drained: drained, reply: reply})
	}); err != nil {
		return nil, err
	}
	select {
	case a := <-reply:
		return a.answer, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Stop asks the keeper to stop everything.
func (b backend) Stop(ctx context.Context, quit, now bool) error {
	return b.call(ctx, func() { _ = b.m.keeper.Post(wire.Stop{Quit: quit, Now: now}) })
}

// Status asks every worker for its counts; one that does not answer in time is listed as silent.
func (b backend) Status(ctx context.Context) (any, error) {
	q := &query{reply: make(chan Status, 1)}
	if err := b.call(ctx, func() { b.m.ask(q) }); err != nil {
		return nil, err
	}
	select {
	case st := <-q.reply:
		return st, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-b.m.ended:
		return nil, errSuperseded
	}
}

// whoRunsLimit is how long a baton may take to say its PID. It may just be starting, as this one is, on a busy machine.
const whoRunsLimit = 15 * time.Second

// whoRuns adds to an address that is taken by a living baton who that is.
func whoRuns(path string, err error) string {
	if !errors.Is(err, unix.EADDRINUSE) {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), whoRunsLimit)
	defer cancel()
	c := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return sockets.Dial(ctx, path) },
	}}
	st, err := askStatus(ctx, c)
	for errors.Is(err, errSuperseded) && ctx.Err() == nil {
		st, err = askStatus(ctx, c)
	}
	if err != nil {
		return ""
	}
	return fmt.Sprintf(": baton is running already, keeper PID %d", st.KeeperPID)
}

func askStatus(ctx context.Context, c http.Client) (st Status, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://baton/status", nil)
	if err != nil {
		return st, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return st, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusServiceUnavailable {
		return st, errSuperseded
	}
	return st, json.NewDecoder(resp.Body).Decode(&st)
}

// query is somebody who asked for the status, and the workers that have not answered yet.
type query struct {
	id      int64
	waiting map[int]bool // by PID
	end     moment
	reply   chan Status
}

// silence is how long a worker may take to answer a status request.
const silence = 500 * time.Millisecond

func (m *master) ask(q *query) {
	m.lastTag++
	q.id, q.waiting, q.end = m.lastTag, map[int]bool{}, monotonic().add(silence)
	for pid, p := range m.procs {
		if p.conn.Post(wire.StatsRequest{ID: q.id}) == nil {
			q.waiting[pid] = true
		}
	}
	m.queries = append(m.queries, q)
}

func (m *master) gotStats(p *proc) {
	for _, q := range m.queries {
		if q.id == p.stats.ID {
			delete(q.waiting, p.pid)
		}
	}
}

// checkQueries answers those that are complete or have waited long enough, and returns when to look again.
func (m *master) checkQueries(next moment) moment {
	var left []*query
	for _, q := range m.queries {
		for pid := range q.waiting {
			if m.procs[pid] == nil {
				delete(q.waiting, pid)
			}
		}
		if len(q.waiting) == 0 || m.over || q.end <= monotonic() {
			q.reply <- m.status(q)
			continue
		}
		left = append(left, q)
		if next == 0 || q.end < next {
			next = q.end
		}
	}
	m.queries = left
	return next
}
