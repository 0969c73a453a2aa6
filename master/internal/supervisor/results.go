package supervisor

import (
	"net/http"
	"strings"
	"time"

	"baton/master/internal/control"
	"baton/master/internal/message"
	"baton/master/internal/status"
)

// maxResults is how many results are kept for clients that ask late.
const maxResults = 64

// maxReason bounds what is kept of a reason.
const maxReason = 4 << 10

// result is how one attempt ended. It answers all requests up to Seen that no earlier one has answered.
type result struct {
	Seen       int64     `json:"seen"`
	OK         bool      `json:"ok"`
	Error      string    `json:"error,omitempty"`
	Generation int       `json:"generation"` // that serves since
	At         time.Time `json:"at"`

	// Drained: no worker of an older generation is left, and this is what was cut of them since.
	Drained        bool  `json:"drained,omitempty"`
	CutRequests    int64 `json:"cut_requests,omitempty"`
	CutConnections int64 `json:"cut_connections,omitempty"`
}

// results are how the last attempts ended.
type results struct {
	All       []result `json:"all,omitempty"`
	Forgotten int64    `json:"forgotten,omitempty"` // the last request whose result is no longer kept
}

func shorten(reason string) string {
	if len(reason) <= maxReason {
		return reason
	}
	return strings.ToValidUTF8(reason[:maxReason], "") + " …"
}

func (rs *results) add(r result) {
	r.Error = shorten(r.Error)
	r.At = time.UnixMilli(time.Now().UnixMilli())
	rs.All = append(rs.All, r)
	if len(rs.All) > maxResults {
		rs.Forgotten = rs.All[0].Seen
		rs.All = rs.All[1:]
	}
}

// of returns how request id ended: by the first attempt that had seen it.
func (rs *results) of(id int64) (result, bool) {
	for _, r := range rs.All {
		if r.Seen >= id {
			return r, true
		}
	}
	return result{}, false
}

// last returns how the last attempt ended.
func (rs *results) last() status.Reload {
	if n := len(rs.All); n > 0 {
		r := rs.All[n-1]
		return status.Reload{ID: r.Seen, OK: r.OK, Error: r.Error, At: r.At}
	}
	return status.Reload{OK: true}
}

// addCut counts what was cut of a worker for every reload that still waits for it. There is one for each generation,
// so that nobody's count begins anew with somebody else's reload.
func (rs *results) addCut(m message.Cut) {
	for i := range rs.All {
		if r := &rs.All[i]; r.OK && !r.Drained && m.Generation < r.Generation {
			r.CutRequests += m.Requests
			r.CutConnections += m.Connections
		}
	}
}

// setOldest notes that no worker is older than that generation.
func (rs *results) setOldest(m message.Oldest) {
	for i := range rs.All {
		if r := &rs.All[i]; r.OK && r.Generation <= m.Generation {
			r.Drained = true
		}
	}
}

func (r result) answer(id int64, drained bool) status.ReloadAnswer {
	a := status.ReloadAnswer{ID: id, OK: r.OK, Error: r.Error, Generation: r.Generation}
	if drained && r.OK {
		a.Drained, a.CutRequests, a.CutConnections = true, r.CutRequests, r.CutConnections
	}
	return a
}

// reloadEnded answers when reload id has ended, and with drained when no older worker is left.
func (f *front) reloadEnded(id int64, drained bool, asked time.Time) poll {
	sv := f.sv
	switch {
	case id < 1 || id > sv.requests:
		return failed(problem(http.StatusNotFound, "reload: there was no reload %d", id))
	case id <= sv.results.Forgotten:
		return failed(problem(http.StatusGone, "reload: how %d ended has been forgotten", id))
	}
	return func(now time.Time) (a *answer, until time.Time) {
		r, ended := sv.results.of(id)
		switch {
		case ended && (!drained || !r.OK || r.Drained):
			return &answer{value: r.answer(id, drained)}, until
		case sv.stopping.begun():
			return &answer{err: errStopping()}, until
		case ended && sv.current != nil && !control.Look(sv.current.pid).Stopped:
			until, runs := sv.current.runs(now, sv.masterLimit()) // the drain may take long
			if !runs {
				a = &answer{err: problem(http.StatusGatewayTimeout, "%s", noAnswer(sv.current))}
			}
			return a, until
		}
		until, err := f.patience(asked, now)
		if err != nil {
			a = &answer{err: err}
		}
		return a, until
	}
}
